// Values under keys, the least recently used ones forgotten when their sizes are too much together.
#pragma once

#include <cstddef>
#include <list>
#include <unordered_map>
#include <utility>

namespace longtake {

template <class Key, class Value>
class Lru {
 public:
  explicit Lru(size_t most_bytes = 0) : most_(most_bytes) {}

  // Forgets what is too much now.
  void limit(size_t most_bytes) {
    most_ = most_bytes;
    shrink();
  }
  // Null: not here. What is found has been used.
  const Value* find(const Key& key) {
    const auto found = places_.find(key);
    if (found == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &found->second->value;
  }
  // A value that is larger than the limit is not kept and removes no other.
  void put(const Key& key, Value value, size_t bytes) {
    erase(key);
    if (bytes > most_) return;
    entries_.push_front({key, std::move(value), bytes});
    places_[key] = entries_.begin();
    bytes_ += bytes;
    shrink();
  }
  void erase(const Key& key) {
    const auto found = places_.find(key);
    if (found == places_.end()) return;
    bytes_ -= found->second->bytes;
    entries_.erase(found->second);
    places_.erase(found);
  }
  void clear() {
    entries_.clear();
    places_.clear();
    bytes_ = 0;
  }
  size_t bytes() const { return bytes_; }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Key key;
    Value value;
    size_t bytes;
  };

  void shrink() {
    while (bytes_ > most_) {
      bytes_ -= entries_.back().bytes;
      places_.erase(entries_.back().key);
      entries_.pop_back();
    }
  }

  size_t most_, bytes_ = 0;
  std::list<Entry> entries_;  // the last used one first
  std::unordered_map<Key, typename std::list<Entry>::iterator> places_;
};

}  // namespace longtake
