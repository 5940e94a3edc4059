// The running softmax of attention's forward pass, as a warp keeps it. Private to
// core/ops/attention*.cu.
#pragma once

#include <tendril/core/ops/attention_warp.cuh>

namespace tendril::ops::cuda {

/// What a warp knows about its rows after some keys.
template <int kD, int kM>
struct RowState {
  float output[kM][kD / 8][4] = {};
  float largest[kM][2], total[kM][2] = {};  // totals: of this lane's columns

  __device__ __forceinline__ RowState() {
    for (int m = 0; m < kM; ++m) largest[m][0] = largest[m][1] = -INFINITY;
  }
};

/// Turns scores into probabilities relative to the new largest score of each row; by `shrink` the
/// output so far must be multiplied.
template <int kD, int kM, int kN>
__device__ __forceinline__ void soft_probabilities(float (&s)[kM][kN][4], RowState<kD, kM>& state,
                                                   float c, float (&shrink)[kM][2]) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = state.largest[m][half];
#pragma unroll
      for (int n = 0; n < kN; ++n)
        top = fmaxf(top, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
      const float base = top == -INFINITY ? 0.0f : top * c;  // NaN scores stay NaN below
      shrink[m][half] = exp2_approximate(state.largest[m][half] * c - base);
      state.largest[m][half] = top;
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < kN; ++n)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          s[m][n][i] = exp2_approximate(fmaf(s[m][n][i], c, -base));
          sum += s[m][n][i];
        }
      state.total[m][half] = state.total[m][half] * shrink[m][half] + sum;
    }
}

template <int kD, int kM>
__device__ __forceinline__ void shrink_output(RowState<kD, kM>& state,
                                              const float (&shrink)[kM][2]) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kD / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) state.output[m][n][i] *= shrink[m][i / 2];
}

/// Both at once.
template <int kD, int kM, int kN>
__device__ __forceinline__ void soft_maximum(float (&s)[kM][kN][4], RowState<kD, kM>& state,
                                             float c) {
  float shrink[kM][2];
  soft_probabilities<kD, kM, kN>(s, state, c, shrink);
  shrink_output(state, shrink);
}

/// Writes the rows [row, row + 16 kM) of the block's output and their lse.
template <class T, class Tile, int kD, int kM>
__device__ __forceinline__ void finish(RowState<kD, kM>& state, const AttentionForward& p,
                                       int64_t b, int64_t h, int t0, int row, float c,
                                       unsigned char* tile) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const int rows = static_cast<int>(p.bounds.Tq) - t0;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total = state.total[m][half];
      total += __shfl_xor_sync(~0u, total, 1);
      total += __shfl_xor_sync(~0u, total, 2);
      const float top = state.largest[m][half], base = top == -INFINITY ? 0.0f : top * c;
      const bool blind = total == 0.0f;  // sees no key; NaN is no such case
      const int at = row + 16 * m + 8 * half + (lane >> 2);
      if (lane % 4 == 0 && at < rows)
        static_cast<float*>(p.lse)[p.statistic(b, h, t0 + at)] =
            blind ? -INFINITY : (base + log2f(total)) * kLn2;
      state.total[m][half] = blind ? 0.0f : static_cast<float>(p.kept) / total;
    }
  const auto inverse = [&](int m, int half) { return state.total[m][half]; };
  store_rows<T, kD, kM, Tile>(state.output, inverse, tile, row, p.output.rows<T>(b, h, t0),
                              p.output.row, rows, static_cast<int>(p.D));
}

}  // namespace tendril::ops::cuda
