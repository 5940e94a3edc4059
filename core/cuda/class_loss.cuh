// Cross entropy of rows of logits against class indices, in one walk: loss, logsumexp and gradient.
// What cross_entropy, its backward and linear_cross_entropy share.
#pragma once

#include <tendril/core/ops/loss_options.h>
#include <tendril/core/tensor.h>
#include <tendril/core/cuda/runtime.cuh>

namespace tendril::cuda {

/// With x_n the logits of row n (V = classes), y its target, L_n = log sum_j exp(x_nj),
/// e = label_smoothing and r_n = factor g_n / max(count, 1):
///   losses[n]        = (1 - e) (L_n - x_ny) + e (L_n - mean_j x_nj)
///   logsumexp[n]     = L_n
///   gradients[n, j]  = r_n (exp(x_nj - L_n) - (1 - e) [j = y] - e / V)
/// The target's exponential is kept out of the sums, so that a confident prediction keeps the
/// digits of its loss and gradient; the target's gradient is minus the sum of the row's others.
///
/// An ignored row has loss, logsumexp and gradients 0. So has a row whose target is neither in
/// [0, V) nor ignore_index; it is reported as an IndexFault of `op`.
///
/// All pointers are to memory of the device; those that are null are left out.
struct ClassLoss {
  HostText op;
  int64_t rows = 0, classes = 0;

  const void* logits = nullptr;  // (rows, classes), `logits_stride` elements from row to row
  DType dtype = f32;             // of logits and gradients: f32, bf16, f16 or f64
  int64_t logits_stride = 0;

  const void* targets = nullptr;  // (rows), dense
  DType target_dtype = i64;       // or i32
  int64_t ignore_index = -100;
  double label_smoothing = 0.0;

  double* losses = nullptr;     // (rows)
  double* logsumexp = nullptr;  // (rows)

  void* gradients = nullptr;     // may be `logits`: then they take their place
  int64_t gradients_stride = 0;  // >= classes; columns [classes, gradients_stride) are written 0

  double factor = 1.0;
  const int64_t* count = nullptr;  // one number; null: 1
  const void* g = nullptr;         // null: 1
  DType g_dtype = f32;             // or f64
  int64_t g_stride = 0;            // 0: one number for all rows, 1: one per row
};

/// Queues the walk on the current stream. A block per row, 16-byte accesses; a row that fits
/// into shared memory is read once, and so is any without gradients and label smoothing. Rows may
/// begin anywhere; they are written fastest when both strides are multiples of 16 bytes.
void class_loss(const ClassLoss& rows, Device device);

/// How many targets are not ignored, an i64 tensor (1) on the device. `target` is dense.
Tensor count_targets(const Tensor& target, int64_t ignore_index);

/// Row losses (rows) in f64 -> the result of a loss: of `shape` for Reduction::none, else (). The
/// sum runs in a fixed order, in double. `count` is that of count_targets; only mean reads it.
Tensor reduce_losses(const Tensor& losses, const Tensor& count, const Shape& shape, DType dtype,
                     Reduction reduction);

}  // namespace tendril::cuda
