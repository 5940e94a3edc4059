// model.safetensors and config.json of GPT-2, as Hugging Face transformers reads and writes them.
#include <tendril/autograd/tape.h>
#include <tendril/core/file.h>
#include <tendril/core/safetensors.h>
#include <tendril/nn/init.h>
#include <tendril/nn/models/gpt2.h>

#include <fstream>
#include <sstream>
#include <system_error>

namespace tendril::nn::models {
namespace {

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kConfig = "config.json";

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  TENDRIL_CHECK(file && !text.fail(), "[from_pretrained] cannot read ", path.string());
  return text.str();
}

// The causal mask that old checkpoints carry along.
bool is_mask(const std::string& name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

std::string canonical(const std::string& name) {
  return name.starts_with("transformer.") || name.starts_with("lm_head.") ? name
                                                                          : "transformer." + name;
}

// A tied model's file may repeat the embedding as head; any other head would be dropped silently.
void drop_tied_head(StateDict& state, const std::string& path) {
  const auto head = state.find("lm_head.weight");
  if (head == state.end()) return;
  const auto embedding = state.find("transformer.wte.weight");
  const NoGradGuard no_grad;
  TENDRIL_CHECK(embedding != state.end() && embedding->second.shape() == head->second.shape() &&
                    all(eq(embedding->second, head->second)).item<bool>(),
                "[from_pretrained] ", path,
                ": lm_head.weight differs from wte.weight although config.json says ",
                "tie_word_embeddings; set it to false there");
  state.erase(head);
}

}  // namespace

std::string Gpt2::config_json() const {
  return config_.to_json(transformer_.token_embedding().dtype());
}

void Gpt2::save_pretrained(const std::filesystem::path& folder) const {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  TENDRIL_CHECK(!error, "[save_pretrained] cannot make folder ", folder.string(), ": ",
                error.message());
  save_safetensors((folder / kWeights).string(), state_dict());
  write_text_file((folder / kConfig).string(), config_json());
}

Gpt2::Pretrained Gpt2::read(const std::filesystem::path& folder) {
  const std::filesystem::path config_path = folder / kConfig;
  const std::string weights_path = (folder / kWeights).string();
  Pretrained result{Gpt2Config::from_json(read_text(config_path), config_path.string()), {}};
  const SafetensorsFile file = SafetensorsFile::open(weights_path);
  for (const std::string& name : file.names()) {
    if (is_mask(name)) continue;
    const bool added = result.state.emplace(canonical(name), file.tensor(name)).second;
    TENDRIL_CHECK(added, "[from_pretrained] ", weights_path, ": \"", canonical(name),
                  "\" is there twice, with and without \"transformer.\"");
  }
  if (result.config.tie_word_embeddings) drop_tied_head(result.state, weights_path);
  return result;
}

Gpt2 Gpt2::from_pretrained(const std::filesystem::path& folder) {
  const Pretrained pretrained = read(folder);
  const init::SkipInit skip;  // every weight is about to be replaced
  return Gpt2(pretrained);
}

Gpt2::Gpt2(const Pretrained& pretrained) : Gpt2(pretrained.config) {
  load_state_dict(pretrained.state);
}

}  // namespace tendril::nn::models
