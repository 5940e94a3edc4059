#include <tendril/autograd/tape.h>
#include <tendril/nn/generate.h>

#include <algorithm>

namespace tendril::nn {
namespace {

// Eval mode while in scope; every module gets back the mode it had.
class EvalGuard {
 public:
  explicit EvalGuard(Module& module) {
    module.for_each_module(
        [&](const std::string&, Module& part) { modes_.emplace_back(&part, part.training()); });
    module.eval();
  }
  ~EvalGuard() {
    for (const auto& [module, mode] : modes_)
      module->train(mode);  // parents first, so children win
  }
  EvalGuard(const EvalGuard&) = delete;
  EvalGuard& operator=(const EvalGuard&) = delete;

 private:
  std::vector<std::pair<Module*, bool>> modes_;
};

// Where the model's parameters are.
Device device_of(const CausalLm& model) {
  const std::vector<Tensor> parameters = model.parameters();
  return parameters.empty() ? Device::cpu() : parameters.front().device();
}

Tensor as_batch(std::span<const int64_t> tokens, Device device) {
  return to(Tensor::from(tokens, {1, static_cast<int64_t>(tokens.size())}), device);
}

}  // namespace

std::vector<int64_t> generate(CausalLm& model, std::span<const int64_t> prompt,
                              const GenerateOptions& options) {
  TENDRIL_CHECK(!prompt.empty(), "[generate] the prompt is empty; give at least one token");
  TENDRIL_CHECK(options.max_new_tokens >= 0, "[generate] max_new_tokens must not be negative; got ",
                options.max_new_tokens);
  for (const int64_t token : prompt)
    TENDRIL_CHECK(token >= 0 && token < model.vocab_size(),
                  "[generate] prompt tokens must be in [0, ", model.vocab_size(), "); got ", token);
  const int64_t positions = model.max_positions();
  TENDRIL_CHECK(positions > 0, "[generate] the model has no positions");

  const NoGradGuard no_grad;
  const EvalGuard eval(model);
  Generator generator(options.seed);
  const SamplingOptions sampling = {options.temperature, options.top_k, options.top_p};
  ModelCache cache = model.make_cache();
  const Device device = device_of(model);

  const size_t limit = static_cast<size_t>(positions);
  std::vector<int64_t> window(
      prompt.end() - static_cast<std::ptrdiff_t>(std::min(prompt.size(), limit)), prompt.end());
  size_t cached = 0;  // how much of the window the cache has seen
  std::vector<int64_t> result;
  while (static_cast<int64_t>(result.size()) < options.max_new_tokens) {
    if (window.size() > limit) {
      window.erase(window.begin(), window.end() - static_cast<std::ptrdiff_t>((limit + 1) / 2));
      cached = 0;
    }
    if (!options.use_cache) cached = 0;
    if (cached == 0) cache.clear();
    const Tensor logits =
        model.next_logits(as_batch(std::span(window).subspan(cached), device), cache);
    cached = window.size();
    const int64_t token = sample_token(logits.to_vector<float>(), sampling, generator);
    window.push_back(token);
    result.push_back(token);
    if (options.on_token) options.on_token(token);
    if (options.eos && token == *options.eos) break;
  }
  return result;
}

}  // namespace tendril::nn
