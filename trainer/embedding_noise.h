// NEFTune in the Trainer: noise on the embeddings while it trains, as large as each sequence's
// length asks for.
#pragma once

#include <optional>

#include <tendril/nn/causal_lm.h>
#include <tendril/trainer/batch.h>

namespace tendril {

/// Noise on the model's embeddings while in scope, also when training ends with an error.
class TENDRIL_API EmbeddingNoise {
 public:
  /// Without alpha it does nothing. Error for a model that has no input_embedding().
  EmbeddingNoise(nn::Module& model, std::optional<double> alpha);
  ~EmbeddingNoise();
  EmbeddingNoise(const EmbeddingNoise&) = delete;
  EmbeddingNoise& operator=(const EmbeddingNoise&) = delete;

 private:
  nn::Embedding* embedding_ = nullptr;
  double before_ = 0.0;
};

/// The lengths that the noise goes by, from here to the end of the scope: to the end of a backward
/// pass that may run the embedding again. Does nothing for a model without noise.
class TENDRIL_API NoiseLengths {
 public:
  NoiseLengths(nn::Module& model, const Batch& batch);
  ~NoiseLengths();
  NoiseLengths(const NoiseLengths&) = delete;
  NoiseLengths& operator=(const NoiseLengths&) = delete;

 private:
  nn::Embedding* embedding_ = nullptr;
};

/// For each position (B, T) the number of tokens of the sequence it belongs to, 0 for padding, as
/// i64 on the CPU. Padding is where attention_mask is 0; where position_ids does not go on by one a
/// packed document begins. Undefined for a batch that has neither: every row is one sequence of T
/// tokens.
TENDRIL_API Tensor sequence_lengths(const Batch& batch);

}  // namespace tendril
