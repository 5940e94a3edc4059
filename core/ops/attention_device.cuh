// What attention's kernels are told, and the rules of a score that all of them share. Private to
// core/ops/attention*.cu.
#pragma once

#include <cstdint>

#include <tendril/core/half.h>
#include <tendril/core/ops/attention.h>
#include <tendril/core/ops/attention_bounds.h>
#include <tendril/core/random.h>

namespace tendril::ops::cuda {

/// A tensor (B, H, T, D); strides in elements.
struct HeadView {
  void* data = nullptr;
  int64_t batch = 0, head = 0, row = 0, column = 1;

  template <class T>
  TENDRIL_HD T* rows(int64_t b, int64_t h, int64_t t) const {
    return static_cast<T*>(data) + b * batch + h * head + t * row;
  }
  /// Leaves out the first rows.
  template <class T>
  TENDRIL_HD void skip(int64_t count) {
    data = static_cast<T*>(data) + count * row;
  }
};

enum class MaskKind : int32_t { none, boolean, additive };

struct AttentionProblem {
  int64_t B = 0, H = 0, Hk = 0, D = 0;
  AttentionBounds bounds;
  // Among how many queries of a head the first one stands where: those of other packed sequences
  // are there too.
  int64_t all_queries = 0, first_query = 0;
  double scale = 1.0;
  // An additive mask is f32 (f64 for f64 scores), broadcast by strides of 0.
  MaskKind mask_kind = MaskKind::none;
  const void* mask = nullptr;
  int64_t mask_strides[4] = {}, mask_begin = 0;
  bool drops = false;
  RandomKey key;
  uint32_t drop_below = 0;  // random words below this drop
  double kept = 1.0;        // 1 / (1 - p)

  TENDRIL_HD int64_t key_head(int64_t h) const { return h / (H / Hk); }
  /// Number of query t among those of its sequence, (B, H, Tq): by it dropout draws.
  TENDRIL_HD int64_t position(int64_t b, int64_t h, int64_t t) const {
    return (b * H + h) * bounds.Tq + t;
  }
  /// Where lse and delta of query t are.
  TENDRIL_HD int64_t statistic(int64_t b, int64_t h, int64_t t) const {
    return (b * H + h) * all_queries + first_query + t;
  }
  /// What the mask adds to a score.
  template <class Score>
  TENDRIL_HD Score mask_at(int64_t b, int64_t h, int64_t t, int64_t s) const {
    const int64_t at = mask_begin + b * mask_strides[0] + h * mask_strides[1] +
                       t * mask_strides[2] + s * mask_strides[3];
    if (mask_kind == MaskKind::boolean)
      return static_cast<const bool*>(mask)[at] ? Score(0) : -static_cast<Score>(INFINITY);
    return static_cast<const Score*>(mask)[at];
  }
};

struct AttentionForward : AttentionProblem {
  HeadView q, k, v, output;
  void* lse = nullptr;  // (B, H, all queries)

  template <class T>
  TENDRIL_HD void skip(int64_t queries, int64_t keys) {
    for (HeadView* x : {&q, &output}) x->skip<T>(queries);
    for (HeadView* x : {&k, &v}) x->skip<T>(keys);
  }
};

struct AttentionBackward : AttentionProblem {
  HeadView g, q, k, v, output, dq, dk, dv;
  const void* lse = nullptr;
  void* delta = nullptr;  // (B, H, all queries), filled by attention_deltas

  template <class T>
  TENDRIL_HD void skip(int64_t queries, int64_t keys) {
    for (HeadView* x : {&g, &q, &output, &dq}) x->skip<T>(queries);
    for (HeadView* x : {&k, &v, &dk, &dv}) x->skip<T>(keys);
  }
};

}  // namespace tendril::ops::cuda
