#include <tendril/dist/launch/model_size.h>

#include <algorithm>
#include <optional>

#include <tendril/core/error.h>

namespace tendril::launch {
namespace {

class Fields {
 public:
  Fields(const Json& config, const std::string& origin) : config_(config), origin_(origin) {}

  double number(const char* name, std::optional<double> otherwise = {}) const {
    const Json* field = config_.find(name);
    if (!field || field->is_null()) {
      TENDRIL_CHECK(otherwise, "[launch] ", origin_, " has no ", name);
      return *otherwise;
    }
    constexpr int64_t kMost = 1'000'000'000;
    TENDRIL_CHECK(field->is_integer() && field->as_int() >= 1 && field->as_int() <= kMost,
                  "[launch] ", origin_, ": ", name, " must be a whole number of at least 1; got ",
                  field->dump());
    return static_cast<double>(field->as_int());
  }
  bool flag(const char* name, bool otherwise) const {
    const Json* field = config_.find(name);
    return field && !field->is_null() ? field->as_bool() : otherwise;
  }

 private:
  const Json& config_;
  const std::string& origin_;
};

// A matrix with a bias, as most layers have it.
double linear(double in, double out, bool bias = true) { return in * out + (bias ? out : 0.0); }

ModelSize sum(double outside, double blocks, double block) {
  return {
      .type = "", .parameters = outside + blocks * block, .largest_unit = std::max(outside, block)};
}

ModelSize gpt2(const Fields& fields) {
  const double channels = fields.number("n_embd"), vocabulary = fields.number("vocab_size");
  const double hidden = fields.number("n_inner", 4 * channels);
  const double block = 4 * channels + linear(channels, 3 * channels) + linear(channels, channels) +
                       linear(channels, hidden) + linear(hidden, channels);
  const double tables = fields.flag("tie_word_embeddings", true) ? 1 : 2;
  const double outside =
      tables * vocabulary * channels + fields.number("n_positions", 1024) * channels + 2 * channels;
  return sum(outside, fields.number("n_layer"), block);
}

ModelSize llama(const Fields& fields) {
  const double width = fields.number("hidden_size"), heads = fields.number("num_attention_heads");
  const double inner = fields.number("intermediate_size");
  const double key_heads = fields.number("num_key_value_heads", heads);
  const double head = fields.number("head_dim", width / heads);
  const bool attention_bias = fields.flag("attention_bias", false);
  const bool mlp_bias = fields.flag("mlp_bias", false);
  const double block = linear(width, heads * head, attention_bias) +
                       2 * linear(width, key_heads * head, attention_bias) +
                       linear(heads * head, width, attention_bias) +
                       2 * linear(width, inner, mlp_bias) + linear(inner, width, mlp_bias) +
                       2 * width;
  const double tables = fields.flag("tie_word_embeddings", false) ? 1 : 2;
  const double outside = tables * fields.number("vocab_size") * width + width;
  return sum(outside, fields.number("num_hidden_layers"), block);
}

ModelSize bert(const Fields& fields) {
  const double width = fields.number("hidden_size"), inner = fields.number("intermediate_size");
  const double block =
      4 * linear(width, width) + linear(width, inner) + linear(inner, width) + 4 * width;
  const double rows = fields.number("vocab_size") + fields.number("max_position_embeddings", 512) +
                      fields.number("type_vocab_size", 2);
  const double outside = rows * width + 2 * width + linear(width, width);  // the last: the pooler
  return sum(outside, fields.number("num_hidden_layers"), block);
}

}  // namespace

ModelSize model_size(const Json& config, const std::string& origin) {
  TENDRIL_CHECK(config.is_object(), "[launch] ", origin, " must be an object");
  const Json* field = config.find("model_type");
  TENDRIL_CHECK(field && field->is_string(), "[launch] ", origin, " has no model_type");
  const std::string& type = field->as_string();
  const Fields fields(config, origin);
  ModelSize size;
  if (type == "gpt2")
    size = gpt2(fields);
  else if (type == "llama" || type == "mistral")
    size = llama(fields);
  else if (type == "bert")
    size = bert(fields);
  else
    fail("[launch] ", origin, ": models of type ", type,
         " cannot be counted, only gpt2, llama, mistral and bert; give --params instead");
  size.type = type;
  return size;
}

}  // namespace tendril::launch
