// Dimensions of a tensor, outermost first; at most 6.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace longtake {

class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  template <class Iterator>
  Shape(Iterator begin, Iterator end) {
    for (; begin != end; ++begin) append(*begin);
  }

  void append(int64_t dim);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  int64_t& operator[](int i) { return dims_[static_cast<size_t>(i)]; }
  int64_t numel() const;        // 1 for a scalar
  int64_t inner_numel() const;  // product of all dimensions but the first
  std::string text() const;     // "[3, 4]"
  bool operator==(const Shape& other) const;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace longtake
