// What one branch of one visit reads and leaves in the rank's cache.
#pragma once

#include <vector>

#include "parallel/plan/instruction.h"
#include "runtime/context/feature_cache.h"
#include "runtime/model/visit.h"

namespace longtake {

class VisitCache : public VisitFeatures {
 public:
  VisitCache(FeatureCache& cache, const Forward& visit, int64_t branch, int64_t head_rows,
             int64_t tail_rows, int64_t skipped_rows)
      : cache_(cache),
        visit_(visit),
        branch_(branch),
        head_rows_(head_rows),
        tail_rows_(tail_rows),
        skipped_rows_(skipped_rows) {}

  LayerFeatures prefix(int64_t layer) override {
    return cache_.read(*visit_.prefix, branch_, layer);
  }
  LayerFeatures suffix(int64_t layer) override {
    return cache_.read(*visit_.suffix, branch_, layer);
  }

  void publish(int64_t layer, LayerFeatures all) override {
    const int64_t end = all.k.dim(0);
    if (visit_.publish_head)
      cache_.write({Edge::head, visit_.block, visit_.step}, branch_, layer,
                   {all.k.rows(skipped_rows_, skipped_rows_ + head_rows_),
                    all.v.rows(skipped_rows_, skipped_rows_ + head_rows_)});
    if (visit_.publish_tail)
      cache_.write({Edge::tail, visit_.block, visit_.step}, branch_, layer,
                   {all.k.rows(end - tail_rows_, end), all.v.rows(end - tail_rows_, end)});
  }

  bool addresses(std::vector<uint64_t>& out) const override {
    const auto add = [&](bool used, const Features& features) {
      out.push_back(used ? reinterpret_cast<uint64_t>(cache_.address(features)) : 0);
    };
    out.push_back(static_cast<uint64_t>(branch_));
    for (const auto& read : {visit_.prefix, visit_.suffix})
      add(read.has_value(), read.value_or(Features{}));
    add(visit_.publish_head, {Edge::head, visit_.block, visit_.step});
    add(visit_.publish_tail, {Edge::tail, visit_.block, visit_.step});
    for (const int64_t rows : {head_rows_, tail_rows_, skipped_rows_})
      out.push_back(static_cast<uint64_t>(rows));
    return true;
  }

 private:
  FeatureCache& cache_;
  const Forward& visit_;
  int64_t branch_, head_rows_, tail_rows_;
  int64_t skipped_rows_;  // tokens of a latent prefix: they publish nothing
};

}  // namespace longtake
