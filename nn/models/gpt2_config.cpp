#include <tendril/core/json.h>
#include <tendril/nn/models/gpt2.h>

#include <cmath>
#include <utility>

namespace tendril::nn::models {
namespace {

constexpr std::pair<const char*, Activation> kActivations[] = {
    {"gelu_new", Activation::gelu_tanh}, {"gelu_pytorch_tanh", Activation::gelu_tanh},
    {"gelu", Activation::gelu},          {"relu", Activation::relu},
    {"silu", Activation::silu},          {"swish", Activation::silu}};

std::string activation_name(Activation activation) {
  for (const auto& [name, value] : kActivations)
    if (value == activation) return name;
  fail("[Gpt2] this activation has no name in config.json; use gelu_tanh, gelu, relu or silu");
}

Activation activation_named(const std::string& wanted, const std::string& origin) {
  for (const auto& [name, value] : kActivations)
    if (wanted == name) return value;
  fail("[Gpt2] ", origin, ": activation_function \"", wanted,
       "\" is not supported; gelu_new, gelu, relu and silu are");
}

std::string torch_name(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "float64";
    case DType::bf16:
      return "bfloat16";
    case DType::f16:
      return "float16";
    default:
      return "float32";
  }
}

// Missing and null members keep the default.
void read(const Json& json, const char* key, int64_t& value) {
  if (const Json* member = json.find(key); member && !member->is_null()) value = member->as_int();
}
void read(const Json& json, const char* key, double& value) {
  if (const Json* member = json.find(key); member && !member->is_null())
    value = member->as_double();
}
void read(const Json& json, const char* key, bool& value) {
  if (const Json* member = json.find(key); member && !member->is_null()) value = member->as_bool();
}

}  // namespace

void Gpt2Config::validate() const {
  const auto positive = [](const char* field, int64_t value) {
    TENDRIL_CHECK(value > 0, "[Gpt2] ", field, " must be positive; got ", value);
  };
  positive("vocab_size", vocab_size);
  positive("n_positions", n_positions);
  positive("n_layer", n_layer);
  positive("n_head", n_head);
  positive("n_embd", n_embd);
  TENDRIL_CHECK(n_inner >= 0, "[Gpt2] n_inner must not be negative; got ", n_inner);
  TENDRIL_CHECK(n_embd % n_head == 0, "[Gpt2] n_embd must be a multiple of n_head; got ", n_embd,
                " and ", n_head);
  TENDRIL_CHECK(activation != Activation::swiglu,
                "[Gpt2] needs a pointwise activation; got swiglu");
  const auto probability = [](const char* field, double value) {
    TENDRIL_CHECK(value >= 0.0 && value < 1.0, "[Gpt2] ", field, " must be in [0, 1); got ", value);
  };
  probability("embd_pdrop", embd_pdrop);
  probability("attn_pdrop", attn_pdrop);
  probability("resid_pdrop", resid_pdrop);
  TENDRIL_CHECK(layer_norm_epsilon > 0.0, "[Gpt2] layer_norm_epsilon must be positive; got ",
                layer_norm_epsilon);
  TENDRIL_CHECK(initializer_range >= 0.0 && std::isfinite(initializer_range),
                "[Gpt2] initializer_range must be finite and not negative; got ",
                initializer_range);
}

int64_t Gpt2Config::parameter_count() const {
  const int64_t C = n_embd, F = inner();
  const int64_t norm = 2 * C;
  const int64_t attention = C * 3 * C + 3 * C + C * C + C;
  const int64_t mlp = C * F + F + F * C + C;
  const int64_t head = tie_word_embeddings ? 0 : vocab_size * C;
  return (vocab_size + n_positions) * C + n_layer * (2 * norm + attention + mlp) + norm + head;
}

double Gpt2Config::flops_per_token(int64_t sequence_length) const {
  const double counted = static_cast<double>(parameter_count() - n_positions * n_embd);
  return 6.0 * counted + 12.0 * static_cast<double>(n_layer * n_embd * sequence_length);
}

std::string Gpt2Config::to_json(DType dtype) const {
  // Without a value transformers would take GPT-2's own token, which may not be in the vocabulary.
  const auto token = [](int64_t id) { return id >= 0 ? Json(id) : Json(nullptr); };
  Json json = Json::object();
  json.set("activation_function", activation_name(activation));
  json.set("architectures", Json::array().push_back("GPT2LMHeadModel"));
  json.set("attn_pdrop", attn_pdrop);
  json.set("bos_token_id", token(bos_token_id));
  json.set("embd_pdrop", embd_pdrop);
  json.set("eos_token_id", token(eos_token_id));
  json.set("initializer_range", initializer_range);
  json.set("layer_norm_epsilon", layer_norm_epsilon);
  json.set("model_type", "gpt2");
  json.set("n_ctx", n_positions);
  json.set("n_embd", n_embd);
  json.set("n_head", n_head);
  json.set("n_inner", n_inner > 0 ? Json(n_inner) : Json(nullptr));
  json.set("n_layer", n_layer);
  json.set("n_positions", n_positions);
  json.set("resid_pdrop", resid_pdrop);
  json.set("tie_word_embeddings", tie_word_embeddings);
  json.set("torch_dtype", torch_name(dtype));
  json.set("vocab_size", vocab_size);
  return json.dump(2) + "\n";
}

Gpt2Config Gpt2Config::from_json(const std::string& text, const std::string& origin) {
  const Json json = Json::parse(text, origin);
  TENDRIL_CHECK(json.is_object(), "[Gpt2] ", origin, ": expected a JSON object");
  if (const Json* type = json.find("model_type"))
    TENDRIL_CHECK(type->as_string() == "gpt2", "[Gpt2] ", origin, " describes a \"",
                  type->as_string(), "\" model, not gpt2");
  for (const auto& [key, plain] :
       {std::pair{"scale_attn_weights", true}, std::pair{"scale_attn_by_inverse_layer_idx", false},
        std::pair{"add_cross_attention", false}}) {
    bool value = plain;
    read(json, key, value);
    TENDRIL_CHECK(value == plain, "[Gpt2] ", origin, ": ", key, " = ", value ? "true" : "false",
                  " is not supported");
  }
  Gpt2Config config;
  read(json, "vocab_size", config.vocab_size);
  read(json, "n_positions", config.n_positions);
  read(json, "n_layer", config.n_layer);
  read(json, "n_head", config.n_head);
  read(json, "n_embd", config.n_embd);
  read(json, "n_inner", config.n_inner);
  read(json, "embd_pdrop", config.embd_pdrop);
  read(json, "attn_pdrop", config.attn_pdrop);
  read(json, "resid_pdrop", config.resid_pdrop);
  read(json, "layer_norm_epsilon", config.layer_norm_epsilon);
  read(json, "initializer_range", config.initializer_range);
  read(json, "tie_word_embeddings", config.tie_word_embeddings);
  read(json, "bos_token_id", config.bos_token_id);
  read(json, "eos_token_id", config.eos_token_id);
  if (const Json* activation = json.find("activation_function");
      activation && !activation->is_null())
    config.activation = activation_named(activation->as_string(), origin);
  config.validate();
  return config;
}

}  // namespace tendril::nn::models
