#include <tendril/trainer/embedding_noise.h>

#include <algorithm>
#include <vector>

namespace tendril {
namespace {

nn::Embedding* input_embedding(nn::Module& model) {
  auto* language_model = dynamic_cast<nn::CausalLm*>(&model);
  return language_model ? language_model->input_embedding() : nullptr;
}

// The column's numbers; none when the batch lacks it.
std::vector<int64_t> numbers(const Batch& batch, const char* name, const Shape& shape) {
  const auto found = batch.find(name);
  if (found == batch.end()) return {};
  TENDRIL_CHECK(found->second.shape() == shape, "[train] ", name,
                " must have the shape of input_ids, ", shape, "; got ", found->second.shape());
  return found->second.to_vector<int64_t>();
}

}  // namespace

EmbeddingNoise::EmbeddingNoise(nn::Module& model, std::optional<double> alpha) {
  if (!alpha) return;
  embedding_ = input_embedding(model);
  TENDRIL_CHECK(embedding_,
                "[train] neftune_noise_alpha needs a CausalLm that says which its "
                "input_embedding() is; got ",
                model.type_name());
  before_ = embedding_->noise_alpha();
  embedding_->set_noise_alpha(*alpha);
}

EmbeddingNoise::~EmbeddingNoise() {
  if (embedding_) embedding_->set_noise_alpha(before_);
}

NoiseLengths::NoiseLengths(nn::Module& model, const Batch& batch) {
  nn::Embedding* const embedding = input_embedding(model);
  if (!embedding || embedding->noise_alpha() == 0.0) return;
  embedding->set_noise_lengths(sequence_lengths(batch));
  embedding_ = embedding;
}

NoiseLengths::~NoiseLengths() {
  if (embedding_) embedding_->set_noise_lengths({});
}

Tensor sequence_lengths(const Batch& batch) {
  const auto tokens = batch.find("input_ids");
  if (tokens == batch.end() || tokens->second.rank() != 2) return {};
  const Shape& shape = tokens->second.shape();
  const std::vector<int64_t> mask = numbers(batch, "attention_mask", shape);
  const std::vector<int64_t> positions = numbers(batch, "position_ids", shape);
  if (mask.empty() && positions.empty()) return {};
  const Tensor result = Tensor::empty(shape, i64);
  int64_t* const lengths = result.data<int64_t>();
  const auto T = static_cast<size_t>(shape[1]), count = static_cast<size_t>(result.numel());
  const auto is_token = [&](size_t i) { return mask.empty() || mask[i] != 0; };
  const auto begins = [&](size_t i) {
    return i % T == 0 || (!positions.empty() && positions[i] != positions[i - 1] + 1);
  };
  for (size_t begin = 0, end = 0; begin < count; begin = end) {
    int64_t length = 0;
    do {
      length += is_token(end);
    } while (++end < count && !begins(end));
    for (size_t i = begin; i < end; ++i) lengths[i] = is_token(i) ? length : 0;
  }
  return result;
}

}  // namespace tendril
