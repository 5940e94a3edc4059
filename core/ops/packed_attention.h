// Attention within packed sequences: several sequences of different lengths lie one after the
// other on the axis T, and nothing of another sequence is seen or computed. The results are the
// same bits as those of one call of attention() for each sequence on its part of the tensors, which
// is what happens on the CPU. A GPU takes up to 240 sequences in one launch; where attention() has
// kernels for compute capability 9.0 alone, those here are the general ones and round differently.
#pragma once

#include <cstdint>
#include <vector>

#include <tendril/core/ops/attention.h>

namespace tendril::ops {

/// Sequence i has queries [q[i], q[i + 1]) and keys [k[i], k[i + 1]).
struct PackedSequences {
  std::vector<int64_t> q, k;

  int64_t count() const { return static_cast<int64_t>(q.size()) - 1; }
};

/// From tensors of shape (n + 1), i32 or i64, on the CPU, which rise from 0 to Tq and to Tk. An
/// undefined `k_starts` stands for `q_starts`. Error when they are anything else.
TENDRIL_API PackedSequences packed_sequences(const Tensor& q_starts, const Tensor& k_starts,
                                             int64_t Tq, int64_t Tk);

/// q (B, H, Tq, D), k and v (B, Hk, Tk, D); all B are packed alike. Causality and window count from
/// a sequence's own ends. settings.key is the dropout of sequence 0; those of the others are the
/// draws after it. A mask broadcasts to (B, H, Tq, Tk); only the sequences' own parts are read.
TENDRIL_API AttentionResult packed_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                             const AttentionSettings& settings,
                                             const PackedSequences& sequences);
TENDRIL_API AttentionGradients packed_attention_backward(const Tensor& g, const Tensor& q,
                                                         const Tensor& k, const Tensor& v,
                                                         const AttentionResult& result,
                                                         const AttentionSettings& settings,
                                                         const PackedSequences& sequences);
/// attention_flops() of all sequences.
TENDRIL_API int64_t packed_attention_flops(const Tensor& q, const Tensor& k,
                                           const AttentionSettings& settings,
                                           const PackedSequences& sequences);

}  // namespace tendril::ops
