#include <tendril/core/ops/attention.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include <tendril/core/cpu/block.h>
#include <tendril/core/cpu/gemm.h>
#include <tendril/core/cpu/scratch.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/attention_bounds.h>
#include <tendril/core/ops/attention_rows.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

using tendril::cpu::BlockReader;
using tendril::cpu::MatrixView;

constexpr int64_t kQueries = 64, kKeys = 256;  // of a block of scores

// Columns of the score buffers: no more than there are keys, in whole cache lines.
int64_t score_columns(int64_t Tk) { return std::min(kKeys, (Tk + 15) / 16 * 16); }

template <class T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

struct Sizes {
  int64_t B, H, Hk, Tq, Tk, D;
};

Sizes sizes_of(const Tensor& q, const Tensor& k) {
  return {q.size(0), q.size(1), k.size(1), q.size(2), k.size(2), q.size(3)};
}

// Rows of head (b, h) from row t on; any strides.
MatrixView head(const Tensor& x, int64_t b, int64_t h, int64_t t) {
  const Strides& strides = x.strides();
  const int64_t offset = b * strides[0] + h * strides[1] + t * strides[2];
  return {static_cast<const char*>(x.raw_data()) + offset * size_of(x.dtype()), x.dtype(),
          strides[2], strides[3]};
}

template <class T>
MatrixView dense(const T* data, int64_t columns) {
  return {data, dtype_of<T>(), columns, 1};
}

// Which scores of a block exist, and the random and additive masks on them.
template <class T>
class ScoreRules {
 public:
  ScoreRules(const Sizes& sizes, const AttentionSettings& settings)
      : bounds{sizes.Tq, sizes.Tk, settings.causal, settings.window},
        sizes_(sizes),
        settings_(settings),
        threshold_(drop_threshold(settings.dropout)) {
    if (!settings.mask.defined()) return;
    is_boolean_ = settings.mask.dtype() == bool_;
    mask_ = BlockReader(settings.mask, {sizes.B, sizes.H, sizes.Tq, sizes.Tk});
  }

  const AttentionBounds bounds;

  /// Scales, masks and returns the largest score of row t, keys [key, key + n).
  T apply(T* scores, int64_t row, int64_t t, int64_t key, int64_t n, T scale) const {
    T added[kKeys];
    const T* add = nullptr;
    if (settings_.mask.defined()) {
      add = mask_.template read<T>(row * sizes_.Tk + key, n, added);
      if (is_boolean_) {
        for (int64_t i = 0; i < n; ++i) added[i] = add[i] != T(0) ? T(0) : kMinusInfinity<T>;
        add = added;
      }
    }
    const int64_t low = std::clamp<int64_t>(bounds.first_key(t) - key, 0, n),
                  high = std::clamp<int64_t>(bounds.last_key(t) - key, low, n);
    const T largest =
        TENDRIL_ISA_CALL(scale_add_max(scores + low, add ? add + low : nullptr, high - low, scale));
    std::fill(scores, scores + low, kMinusInfinity<T>);
    std::fill(scores + high, scores + n, kMinusInfinity<T>);
    return largest;
  }

  bool drops() const { return settings_.dropout > 0.0; }

  /// Multiplies by 0 or 1 / (1 - p).
  void drop(T* values, int64_t row, int64_t key, int64_t n) const {
    const T kept = static_cast<T>(1.0 / (1.0 - settings_.dropout));
    for (int64_t i = 0; i < n; ++i) {
      const auto element = static_cast<uint64_t>(row * sizes_.Tk + key + i);
      values[i] = settings_.key.bits(element) < threshold_ ? T(0) : values[i] * kept;
    }
  }

 private:
  Sizes sizes_;
  const AttentionSettings& settings_;
  uint32_t threshold_;
  bool is_boolean_ = false;
  BlockReader mask_;
};

// One block of queries against all its keys, with the running maximum and sum of each row.
template <class T>
void forward_block(const Tensor& q, const Tensor& k, const Tensor& v, const ScoreRules<T>& rules,
                   const Sizes& sizes, T scale, int64_t b, int64_t h, int64_t t0, T* output,
                   T* lse) {
  const auto& [B, H, Hk, Tq, Tk, D] = sizes;
  const int64_t rows = std::min(kQueries, Tq - t0), hk = h / (H / Hk), stride = score_columns(Tk);
  const tendril::cpu::Scratch scratch(rows * stride * static_cast<int64_t>(sizeof(T)));
  T* scores = reinterpret_cast<T*>(scratch.data());
  T total[kQueries], largest[kQueries];
  std::fill_n(total, rows, T(0));
  std::fill_n(largest, rows, kMinusInfinity<T>);
  std::fill_n(output, rows * D, T(0));
  const int64_t end = rules.bounds.last_key(t0 + rows - 1);
  for (int64_t key = rules.bounds.first_key(t0) / kKeys * kKeys; key < end; key += kKeys) {
    const int64_t n = std::min(kKeys, end - key);  // later keys are seen by no query of the block
    tendril::cpu::gemm<T>(rows, n, D, head(q, b, h, t0), head(k, b, hk, key).transposed(), scores,
                          stride);
    for (int64_t i = 0; i < rows; ++i) {
      T* row = scores + i * stride;
      const int64_t position = (b * H + h) * Tq + t0 + i;
      const T previous = largest[i];
      largest[i] =
          std::max(rules.apply(row, position, t0 + i, key, n, scale), previous);  // keeps NaN
      if (largest[i] == kMinusInfinity<T>) {
        std::fill_n(row, n, T(0));
        continue;
      }
      const T shrink = std::exp(previous - largest[i]);
      total[i] = total[i] * shrink + TENDRIL_ISA_CALL(exp_shifted_sum(row, n, largest[i]));
      if (shrink != T(1)) TENDRIL_ISA_CALL(scale_row(output + i * D, D, shrink));
      if (rules.drops()) rules.drop(row, position, key, n);
    }
    tendril::cpu::gemm<T>(rows, D, n, dense(scores, stride), head(v, b, hk, key), output, D, true);
  }
  for (int64_t i = 0; i < rows; ++i) {
    lse[i] = kMinusInfinity<T>;
    if (total[i] == T(0)) continue;  // sees no key; NaN is no such case
    lse[i] = largest[i] + std::log(total[i]);
    TENDRIL_ISA_CALL(scale_row(output + i * D, D, T(1) / total[i]));
  }
}

template <class T>
void forward(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionSettings& settings,
             const Tensor& output, const Tensor& lse) {
  const Sizes sizes = sizes_of(q, k);
  const ScoreRules<T> rules(sizes, settings);
  const int64_t blocks = (sizes.Tq + kQueries - 1) / kQueries;
  parallel_for(sizes.B * sizes.H * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t bh = index / blocks, t0 = index % blocks * kQueries, row = bh * sizes.Tq + t0;
      forward_block<T>(q, k, v, rules, sizes, static_cast<T>(settings.scale), bh / sizes.H,
                       bh % sizes.H, t0, output.data<T>() + row * sizes.D, lse.data<T>() + row);
    }
  });
}

// Buffers of one backward block: probabilities, the same after dropout, and score gradients.
template <class T>
class Workspace {
 public:
  explicit Workspace(int64_t Tk, bool drops)
      : stride(score_columns(Tk)),
        scratch_(kQueries * stride * (drops ? 3 : 2) * static_cast<int64_t>(sizeof(T))) {
    p = reinterpret_cast<T*>(scratch_.data());
    ds = p + kQueries * stride;
    dropped = drops ? ds + kQueries * stride : p;
  }

  int64_t stride;
  T *p, *ds, *dropped;

 private:
  tendril::cpu::Scratch scratch_;
};

template <class T>
struct Gradients {
  const Tensor &g, &q, &k, &v, &output, &lse;
  T *dq, *dk, *dv;  // contiguous, zeroed
};

template <class T>
void backward_block(const Gradients<T>& x, const ScoreRules<T>& rules, const Sizes& sizes, T scale,
                    int64_t b, int64_t h, int64_t t0, int64_t key, int64_t n, const T* delta,
                    Workspace<T>& work) {
  const auto& [B, H, Hk, Tq, Tk, D] = sizes;
  const int64_t hk = h / (H / Hk), rows = std::min(kQueries, Tq - t0);
  const MatrixView query = head(x.q, b, h, t0), keys = head(x.k, b, hk, key),
                   values = head(x.v, b, hk, key), g = head(x.g, b, h, t0);
  tendril::cpu::gemm<T>(rows, n, D, query, keys.transposed(), work.p, work.stride);
  tendril::cpu::gemm<T>(rows, n, D, g, values.transposed(), work.ds, work.stride);
  for (int64_t i = 0; i < rows; ++i) {
    T *p = work.p + i * work.stride, *ds = work.ds + i * work.stride,
      *dropped = work.dropped + i * work.stride;
    const int64_t position = (b * H + h) * Tq + t0 + i;
    const T lse = x.lse.template data<T>()[position];
    rules.apply(p, position, t0 + i, key, n, scale);
    if (lse == kMinusInfinity<T>)
      std::fill_n(p, n, T(0));
    else
      TENDRIL_ISA_CALL(exp_shifted_sum(p, n, lse));
    if (rules.drops()) {
      std::copy_n(p, n, dropped);
      rules.drop(dropped, position, key, n);
      rules.drop(ds, position, key, n);
    }
    TENDRIL_ISA_CALL(score_gradient(ds, p, n, delta[i], scale));
  }
  const MatrixView ds = dense(work.ds, work.stride),
                   probabilities = dense(work.dropped, work.stride);
  T* dq = x.dq + ((b * H + h) * Tq + t0) * D;
  const int64_t key_row = ((b * Hk + hk) * Tk + key) * D;
  tendril::cpu::gemm<T>(rows, D, n, ds, keys, dq, D, true);
  tendril::cpu::gemm<T>(n, D, rows, ds.transposed(), query, x.dk + key_row, D, true);
  tendril::cpu::gemm<T>(n, D, rows, probabilities.transposed(), g, x.dv + key_row, D, true);
}

// delta_t = sum over d of g * output
template <class T>
void row_deltas(const Tensor& g, const Tensor& output, int64_t b, int64_t h, int64_t t0,
                int64_t rows, int64_t D, T* delta) {
  const MatrixView left = head(g, b, h, t0), right = head(output, b, h, t0);
  for (int64_t i = 0; i < rows; ++i) {
    const T* a = static_cast<const T*>(left.data) + i * left.row_stride;
    const T* c = static_cast<const T*>(right.data) + i * right.row_stride;
    delta[i] = T(0);
    for (int64_t d = 0; d < D; ++d)
      delta[i] += a[d * left.column_stride] * c[d * right.column_stride];
  }
}

// A thread owns whole key heads, so that every sum into dk and dv has one order.
template <class T>
void backward(const Gradients<T>& x, const AttentionSettings& settings) {
  const Sizes sizes = sizes_of(x.q, x.k);
  const ScoreRules<T> rules(sizes, settings);
  parallel_for(sizes.B * sizes.Hk, 1, [&](int64_t begin, int64_t end) {
    const SerialScope own_head;  // a single one must not share its thousands of small products
    Workspace<T> work(sizes.Tk, rules.drops());
    T delta[kQueries];
    for (int64_t index = begin; index < end; ++index) {
      const int64_t b = index / sizes.Hk, group = sizes.H / sizes.Hk,
                    first = index % sizes.Hk * group;
      for (int64_t h = first; h < first + group; ++h)
        for (int64_t t0 = 0; t0 < sizes.Tq; t0 += kQueries) {
          const int64_t rows = std::min(kQueries, sizes.Tq - t0);
          row_deltas<T>(x.g, x.output, b, h, t0, rows, sizes.D, delta);
          const int64_t last = rules.bounds.last_key(t0 + rows - 1);
          for (int64_t key = rules.bounds.first_key(t0) / kKeys * kKeys; key < last; key += kKeys)
            backward_block<T>(x, rules, sizes, static_cast<T>(settings.scale), b, h, t0, key,
                              std::min(kKeys, last - key), delta, work);
        }
    }
  });
}

}  // namespace

// The kernels write f32 or f64; 16-bit results are rounded from there.
AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const AttentionSettings& settings) {
  const DType dtype = accumulate_dtype(q.dtype());
  const Tensor output = Tensor::empty(q.shape(), dtype),
               lse = Tensor::empty({q.size(0), q.size(1), q.size(2)}, dtype);
  if (dtype == f64)
    forward<double>(q, k, v, settings, output, lse);
  else
    forward<float>(q, k, v, settings, output, lse);
  return {cast(output, q.dtype()), lse};
}

AttentionGradients attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                      const Tensor& v, const AttentionResult& result,
                                      const AttentionSettings& settings) {
  const DType dtype = accumulate_dtype(q.dtype());
  const AttentionGradients sums{zeros(q.shape(), dtype), zeros(k.shape(), dtype),
                                zeros(v.shape(), dtype)};
  const Tensor upstream = cast(g, dtype), output = cast(result.output, dtype);
  const auto run = [&]<class T>(TypeTag<T>) {
    backward<T>({upstream, q, k, v, output, result.lse, sums.q.data<T>(), sums.k.data<T>(),
                 sums.v.data<T>()},
                settings);
  };
  if (dtype == f64)
    run(TypeTag<double>{});
  else
    run(TypeTag<float>{});
  return {cast(sums.q, q.dtype()), cast(sums.k, k.dtype()), cast(sums.v, v.dtype())};
}

}  // namespace cpu

namespace cuda {  // attention.cu
AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const AttentionSettings& settings);
AttentionGradients attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                      const Tensor& v, const AttentionResult& result,
                                      const AttentionSettings& settings);
}  // namespace cuda

namespace {

constexpr const char* kName = "scaled_dot_product_attention";

}  // namespace

AttentionSettings checked_settings(const Tensor& q, const Tensor& k, const Tensor& v,
                                   AttentionSettings settings) {
  TENDRIL_CHECK(q.rank() == 4 && k.rank() == 4 && v.rank() == 4, "[", kName,
                "] needs q (B, H, Tq, D), k and v "
                "(B, Hk, Tk, D); got ",
                q.shape(), ", ", k.shape(), " and ", v.shape());
  TENDRIL_CHECK(k.shape() == v.shape(), "[", kName, "] k and v must have one shape; got ",
                k.shape(), " and ", v.shape());
  TENDRIL_CHECK(q.size(0) == k.size(0) && q.size(3) == k.size(3), "[", kName,
                "] q and k differ in batch or head size; got ", q.shape(), " and ", k.shape());
  TENDRIL_CHECK(k.size(1) > 0 && q.size(1) % k.size(1) == 0, "[", kName, "] the ", q.size(1),
                " heads of q must be a multiple of the ", k.size(1), " heads of k and v");
  TENDRIL_CHECK(is_floating(q.dtype()) && k.dtype() == q.dtype() && v.dtype() == q.dtype(), "[",
                kName, "] q, k and v must have one floating dtype; got ", q.dtype(), ", ",
                k.dtype(), " and ", v.dtype());
  require_same_device(kName, q, k, v, settings.mask);
  TENDRIL_CHECK(settings.dropout >= 0.0 && settings.dropout < 1.0, "[", kName,
                "] dropout must be in [0, 1); got ", settings.dropout);
  TENDRIL_CHECK(settings.window >= 0 && (settings.window == 0 || settings.causal), "[", kName,
                "] a window needs causal = true and a size of at least 1; got window ",
                settings.window);
  if (settings.mask.defined()) {
    const Shape scores{q.size(0), q.size(1), q.size(2), k.size(2)};
    TENDRIL_CHECK(settings.mask.rank() <= 4 &&
                      broadcast_shapes(kName, settings.mask.shape(), scores) == scores,
                  "[", kName, "] the mask must broadcast to (B, H, Tq, Tk) = ", scores, "; got ",
                  settings.mask.shape());
    TENDRIL_CHECK(settings.mask.dtype() == bool_ || is_floating(settings.mask.dtype()), "[", kName,
                  "] the mask must be bool or floating; got ", settings.mask.dtype());
  }
  settings.window = std::min(settings.window, q.size(2) + k.size(2));  // no wider window sees more
  if (settings.scale == 0.0)
    settings.scale = 1.0 / std::sqrt(static_cast<double>(std::max<int64_t>(q.size(3), 1)));
  return settings;
}

AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const AttentionSettings& settings) {
  const AttentionSettings valid = checked_settings(q, k, v, settings);
  return TENDRIL_ON_DEVICE(q, attention(q, k, v, valid));
}

AttentionGradients attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                      const Tensor& v, const AttentionResult& result,
                                      const AttentionSettings& settings) {
  const AttentionSettings valid = checked_settings(q, k, v, settings);
  return TENDRIL_ON_DEVICE(q, attention_backward(g, q, k, v, result, valid));
}

}  // namespace tendril::ops
