#include <tendril/core/ops/packed_attention.h>

#include <algorithm>

#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/flops.h>
#include <tendril/core/ops/layout.h>

namespace tendril::ops {
namespace {

constexpr const char* kName = "scaled_dot_product_attention";

std::vector<int64_t> checked_starts(const char* which, const Tensor& starts, int64_t T) {
  TENDRIL_CHECK(
      starts.rank() == 1 && starts.numel() >= 2 && (starts.dtype() == i32 || starts.dtype() == i64),
      "[", kName, "] ", which, " must be i32 or i64 of shape (sequences + 1); got ", starts.dtype(),
      " ", starts.shape());
  TENDRIL_CHECK(starts.device().is_cpu(), "[", kName, "] ", which,
                " says what to launch and must be on the CPU; got ", starts.device(),
                "; move it there once with to(x, Device::cpu())");
  std::vector<int64_t> list = starts.to_vector<int64_t>();
  TENDRIL_CHECK(list.front() == 0 && list.back() == T, "[", kName, "] ", which,
                " must rise from 0 to the ", T, " positions that are there; got ", list.front(),
                " to ", list.back());
  for (size_t i = 1; i < list.size(); ++i)
    TENDRIL_CHECK(list[i - 1] <= list[i], "[", kName, "] ", which, " must not fall; got ",
                  list[i - 1], " and then ", list[i], " at position ", i);
  return list;
}

// The positions of one sequence on the axis T of a tensor (B, H, T, ...).
Tensor part(const Tensor& x, const std::vector<int64_t>& starts, int64_t i) {
  const auto at = static_cast<size_t>(i);
  return narrow(x, 2, starts[at], starts[at + 1] - starts[at]);
}

}  // namespace

namespace cpu {
namespace {

// The same on one of a mask's last two axes; an axis that broadcasts has no parts.
Tensor mask_part(const Tensor& mask, int64_t axis_from_end, const std::vector<int64_t>& starts,
                 int64_t i) {
  const int64_t axis = mask.rank() - axis_from_end;
  if (axis < 0 || mask.shape()[axis] == 1) return mask;
  const auto at = static_cast<size_t>(i);
  return narrow(mask, axis, starts[at], starts[at + 1] - starts[at]);
}

AttentionSettings settings_of(const AttentionSettings& settings, const PackedSequences& sequences,
                              int64_t i) {
  AttentionSettings own = settings;
  own.key.position += static_cast<uint64_t>(i);
  if (!settings.mask.defined()) return own;
  own.mask = mask_part(mask_part(settings.mask, 2, sequences.q, i), 1, sequences.k, i);
  return own;
}

}  // namespace

AttentionResult packed_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const AttentionSettings& settings,
                                 const PackedSequences& sequences) {
  const AttentionResult all{
      Tensor::empty(q.shape(), q.dtype(), q.device()),
      Tensor::empty({q.size(0), q.size(1), q.size(2)}, accumulate_dtype(q.dtype()), q.device())};
  for (int64_t i = 0; i < sequences.count(); ++i) {
    const AttentionResult own =
        attention(part(q, sequences.q, i), part(k, sequences.k, i), part(v, sequences.k, i),
                  settings_of(settings, sequences, i));
    copy(part(all.output, sequences.q, i), own.output);
    copy(part(all.lse, sequences.q, i), own.lse);
  }
  return all;
}

AttentionGradients packed_attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                             const Tensor& v, const AttentionResult& result,
                                             const AttentionSettings& settings,
                                             const PackedSequences& sequences) {
  const auto like = [](const Tensor& x) { return Tensor::empty(x.shape(), x.dtype(), x.device()); };
  const AttentionGradients all{like(q), like(k), like(v)};
  for (int64_t i = 0; i < sequences.count(); ++i) {
    // The backward pass walks lse as dense memory.
    const AttentionResult own_result{part(result.output, sequences.q, i),
                                     contiguous(part(result.lse, sequences.q, i))};
    const AttentionGradients own = attention_backward(
        part(g, sequences.q, i), part(q, sequences.q, i), part(k, sequences.k, i),
        part(v, sequences.k, i), own_result, settings_of(settings, sequences, i));
    copy(part(all.q, sequences.q, i), own.q);
    copy(part(all.k, sequences.k, i), own.k);
    copy(part(all.v, sequences.k, i), own.v);
  }
  return all;
}

}  // namespace cpu

namespace cuda {  // attention.cu
AttentionResult packed_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const AttentionSettings& settings,
                                 const PackedSequences& sequences);
AttentionGradients packed_attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                             const Tensor& v, const AttentionResult& result,
                                             const AttentionSettings& settings,
                                             const PackedSequences& sequences);
}  // namespace cuda

namespace {

// Kernels turn starts into addresses.
void check_starts(const std::vector<int64_t>& starts, int64_t T) {
  TENDRIL_CHECK(starts.size() >= 2 && starts.front() == 0 && starts.back() == T &&
                    std::is_sorted(starts.begin(), starts.end()),
                "[", kName, "] packed sequences must rise from 0 to the ", T,
                " positions that are there");
}

void check_sequences(const PackedSequences& sequences, const Tensor& q, const Tensor& k) {
  TENDRIL_CHECK(sequences.q.size() == sequences.k.size(), "[", kName, "] got ", sequences.q.size(),
                " starts of queries and ", sequences.k.size(), " of keys");
  check_starts(sequences.q, q.size(2));
  check_starts(sequences.k, k.size(2));
}

}  // namespace

PackedSequences packed_sequences(const Tensor& q_starts, const Tensor& k_starts, int64_t Tq,
                                 int64_t Tk) {
  TENDRIL_CHECK(q_starts.defined(), "[", kName, "] got k_starts without q_starts; give both");
  TENDRIL_CHECK(k_starts.defined() || Tq == Tk, "[", kName, "] ", Tq, " queries and ", Tk,
                " keys cannot be cut alike; give k_starts too");
  PackedSequences sequences{checked_starts("q_starts", q_starts, Tq), {}};
  sequences.k = k_starts.defined() ? checked_starts("k_starts", k_starts, Tk) : sequences.q;
  TENDRIL_CHECK(sequences.q.size() == sequences.k.size(), "[", kName,
                "] q_starts and k_starts must name as many sequences; got ", sequences.count(),
                " and ", sequences.k.size() - 1);
  return sequences;
}

AttentionResult packed_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                 const AttentionSettings& settings,
                                 const PackedSequences& sequences) {
  const AttentionSettings valid = checked_settings(q, k, v, settings);
  check_sequences(sequences, q, k);
  return TENDRIL_ON_DEVICE(q, packed_attention(q, k, v, valid, sequences));
}

AttentionGradients packed_attention_backward(const Tensor& g, const Tensor& q, const Tensor& k,
                                             const Tensor& v, const AttentionResult& result,
                                             const AttentionSettings& settings,
                                             const PackedSequences& sequences) {
  const AttentionSettings valid = checked_settings(q, k, v, settings);
  check_sequences(sequences, q, k);
  return TENDRIL_ON_DEVICE(q, packed_attention_backward(g, q, k, v, result, valid, sequences));
}

int64_t packed_attention_flops(const Tensor& q, const Tensor& k, const AttentionSettings& settings,
                               const PackedSequences& sequences) {
  int64_t sum = 0;
  for (int64_t i = 0; i < sequences.count(); ++i)
    sum += attention_flops(part(q, sequences.q, i), part(k, sequences.k, i), settings);
  return sum;
}

}  // namespace tendril::ops
