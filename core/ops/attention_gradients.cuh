// From scores and the gradients of probabilities to the gradients of scores, as a warp has them in
// registers. Private to core/ops/attention*.cu.
#pragma once

#include <cstring>

#include <tendril/core/ops/attention_warp.cuh>

namespace tendril::ops::cuda {

/// {lse, delta} (attention_deltas) of the lane's queries; those after the last have probability 0.
template <int kM>
__device__ __forceinline__ void load_query_rows(float2 (&rows)[kM][2], const AttentionBackward& p,
                                                int64_t b, int64_t h, int first) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int t = first + 16 * m + 8 * half + (static_cast<int>(threadIdx.x & 31) >> 2);
      rows[m][half] = t < p.bounds.Tq ? static_cast<const float2*>(p.delta)[p.statistic(b, h, t)]
                                      : float2{INFINITY, 0.0f};
    }
}

/// Starts copying those of queries [t, t + kQueries) to shared memory; zeros after the last.
/// `thread` counts kThreads threads.
template <int kQueries, int kThreads>
__device__ __forceinline__ void start_query_rows(uint32_t destination, const AttentionBackward& p,
                                                 int64_t b, int64_t h, int t, int thread) {
  const int Tq = static_cast<int>(p.bounds.Tq);
  for (int i = thread; i < kQueries; i += kThreads)
    copy_async_8(destination + 8 * i,
                 static_cast<const float2*>(p.delta) + p.statistic(b, h, min(t + i, Tq - 1)),
                 t + i < Tq);
}

/// Scores -> dS, given dP.
template <bool kExtras, int kM, int kN>
__device__ __forceinline__ void query_score_gradients(float (&s)[kM][kN][4],
                                                      const float (&dp)[kM][kN][4],
                                                      const float2 (&rows)[kM][2],
                                                      const AttentionProblem& p, int64_t b,
                                                      int64_t h, int t, int key, float c) {
  const int g = static_cast<int>(threadIdx.x & 31) >> 2;
  const float kept = static_cast<float>(p.kept);
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    const auto row = static_cast<uint64_t>(p.position(b, h, t + 16 * m + g)),
               Tk = static_cast<uint64_t>(p.bounds.Tk);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      uint32_t words[4] = {};
      if constexpr (kExtras)
        if (p.drops) {
          const uint64_t low = row * Tk + static_cast<uint64_t>(key + 8 * n);
          query_row_words(words, p.key, Tk % 4 == 0, low, low + 8 * Tk);
        }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 of_row = rows[m][i / 2];
        float gradient = dp[m][n][i];
        if constexpr (kExtras)
          if (p.drops) gradient = words[i] < p.drop_below ? 0.0f : gradient * kept;
        s[m][n][i] = exp2_approximate(fmaf(s[m][n][i], c, -of_row.x)) * (gradient - of_row.y);
      }
    }
  }
}

/// P^T, dropped, for dV, and dS^T for dK: in place of the scores and of dP.
template <bool kExtras, int kM, int kN>
struct KeyScores {
  float s[kM][kN][4] = {}, dp[kM][kN][4] = {};
  uint32_t keeps[kM] = {};  // a bit for each score

  __device__ __forceinline__ void probabilities(const float2* rows, float c) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const auto two = *reinterpret_cast<const float4*>(rows + 8 * n + 2 * (threadIdx.x & 3));
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          s[m][n][i] = exp2_approximate(fmaf(s[m][n][i], c, i % 2 ? -two.z : -two.x));
    }
  }

  // Draws the coins of keys [key, ...) and queries [t, ...).
  __device__ __forceinline__ void draw(const AttentionProblem& p, int64_t b, int64_t h, int key,
                                       int t) {
    const auto Tk = static_cast<uint64_t>(p.bounds.Tk);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      keeps[m] = 0;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        uint32_t words[4];
        const uint64_t element = static_cast<uint64_t>(p.position(b, h, t + 8 * n)) * Tk +
                                 static_cast<uint64_t>(key + 16 * m);
        key_row_words(words, p.key, Tk % 4 == 0, element, Tk);
#pragma unroll
        for (int i = 0; i < 4; ++i) keeps[m] |= (words[i] < p.drop_below ? 0u : 1u) << (4 * n + i);
      }
    }
  }
  __device__ __forceinline__ void drop(float (&x)[kM][kN][4], float kept) const {
    static_assert(4 * kN <= 32);
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          x[m][n][i] = keeps[m] >> (4 * n + i) & 1 ? x[m][n][i] * kept : 0.0f;
  }

  __device__ __forceinline__ void gradients(const float2* rows) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const auto two = *reinterpret_cast<const float4*>(rows + 8 * n + 2 * (threadIdx.x & 3));
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          dp[m][n][i] = s[m][n][i] * (dp[m][n][i] - (i % 2 ? two.w : two.y));
    }
  }
};

}  // namespace tendril::ops::cuda
