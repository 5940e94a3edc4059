// Which keys a query sees by causality and window, and the other way round; on the host and in
// kernels. Query t stands at position t + Tk - Tq: the last query sees the last key.
#pragma once

#include <cstdint>

#include <tendril/core/api.h>

namespace tendril::ops {

struct AttentionBounds {
  int64_t Tq = 0, Tk = 0;
  bool causal = false;
  int64_t window = 0;  // 0: none

  /// Keys [first_key(t), last_key(t)) of query t; both grow with t.
  TENDRIL_HD int64_t first_key(int64_t t) const {
    return window > 0 ? clamp(t + shift() - window + 1, Tk) : 0;
  }
  TENDRIL_HD int64_t last_key(int64_t t) const { return causal ? clamp(t + shift() + 1, Tk) : Tk; }

  /// Queries [first_query(s), last_query(s)) that see key s; both grow with s.
  TENDRIL_HD int64_t first_query(int64_t s) const { return causal ? clamp(s - shift(), Tq) : 0; }
  TENDRIL_HD int64_t last_query(int64_t s) const {
    return window > 0 ? clamp(s - shift() + window, Tq) : Tq;
  }

  /// Whether each of the queries [t, t + queries) sees each of the keys [s, s + keys).
  TENDRIL_HD bool sees_all(int64_t t, int64_t queries, int64_t s, int64_t keys) const {
    return s >= first_key(t + queries - 1) && s + keys <= last_key(t);
  }
  /// Whether none of them sees any.
  TENDRIL_HD bool sees_none(int64_t t, int64_t queries, int64_t s, int64_t keys) const {
    return s + keys <= first_key(t) || s >= last_key(t + queries - 1);
  }

 private:
  TENDRIL_HD int64_t shift() const { return Tk - Tq; }
  TENDRIL_HD static int64_t clamp(int64_t x, int64_t high) {
    return x < 0 ? 0 : (x > high ? high : x);
  }
};

}  // namespace tendril::ops
