// Trains a small GPT on text, byte by byte, and prints what it learned.
//
//   quickstart                          the text is this repository's own sources and documents
//   quickstart --data shakespeare.txt   or any file
//   quickstart --help                   sizes and hyper-parameters
//
// The program, from top to bottom: options, text, batches, progress, training.
#include <tendril/tendril.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace fs = std::filesystem;
using namespace tendril;

// ---- options. The defaults are nanoGPT's setting for a CPU.

struct Options {
  std::string data, out = "out/quickstart";
  int steps = 2000, batch_size = 12, context = 64;
  int n_layer = 4, n_head = 4, n_embd = 128;
  double dropout = 0.0;
  double learning_rate = 1e-3, min_lr = 1e-4;
  int warmup_steps = 100;
  double weight_decay = 0.1, beta1 = 0.9, beta2 = 0.99, grad_clip = 1.0;
  int eval_interval = 250, eval_batches = 20;
  int seed = 1337, threads = 0;
  bool autocast = false;
  int sample_tokens = 400, top_k = 40;
  double temperature = 0.8;
};

void declare(CLI::App& app, Options& o) {
  app.option_defaults()->always_capture_default();
  const auto number = [&app](const char* requirement, bool (*holds)(double)) {
    return [=, &app](const char* name, auto& value, const char* text) {
      app.add_option(name, value, text)->check([=](const std::string& given) {
        char* end = nullptr;
        const double x = std::strtod(given.c_str(), &end);
        return *end == 0 && holds(x) ? ""
                                     : "must be " + std::string(requirement) + "; got " + given;
      });
    };
  };
  const auto positive = number("above 0", [](double x) { return x > 0; });
  const auto not_negative = number("at least 0", [](double x) { return x >= 0; });
  const auto fraction = number("at least 0 and below 1", [](double x) { return x >= 0 && x < 1; });

  app.add_option("--data", o.data, "Text to learn; without it, this repository's own")
      ->check(CLI::ExistingFile);
  app.add_option("--out", o.out, "Folder for model.safetensors and config.json");
  positive("--steps", o.steps, "Optimizer steps");
  positive("--batch_size", o.batch_size, "Sequences per step");
  positive("--context", o.context, "Bytes per sequence");
  positive("--n_layer", o.n_layer, "Transformer blocks");
  positive("--n_head", o.n_head, "Attention heads");
  positive("--n_embd", o.n_embd, "Channels, a multiple of n_head");
  fraction("--dropout", o.dropout, "Probability to drop");
  positive("--learning_rate", o.learning_rate, "Highest learning rate");
  not_negative("--min_lr", o.min_lr, "Learning rate at the end of the cosine");
  not_negative("--warmup_steps", o.warmup_steps, "Steps of linear warm-up");
  not_negative("--weight_decay", o.weight_decay, "AdamW's decay of matrices");
  fraction("--beta1", o.beta1, "AdamW's decay of the first moment");
  fraction("--beta2", o.beta2, "AdamW's decay of the second moment");
  not_negative("--grad_clip", o.grad_clip, "Largest gradient norm; 0 does not clip");
  positive("--eval_interval", o.eval_interval, "Steps between validations");
  positive("--eval_batches", o.eval_batches, "Batches per validation");
  not_negative("--seed", o.seed, "Seed of weights, batches and samples");
  not_negative("--threads", o.threads, "CPU threads; 0 takes all cores");
  app.add_flag("--autocast", o.autocast, "Matrix products in bf16; weights and losses stay f32");
  not_negative("--sample_tokens", o.sample_tokens, "Bytes to generate at the end");
  not_negative("--temperature", o.temperature,
               "Below 1 safer, above 1 wilder; 0 takes the likeliest");
  not_negative("--top_k", o.top_k, "Sample among the k likeliest bytes; 0 among all");
}

// ---- text

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  TENDRIL_CHECK(file, "[quickstart] cannot read ", path.string());
  return text;
}

// The repository's sources and documents, in a fixed order.
std::string own_text() {
  const fs::path root = TENDRIL_SOURCE_DIR;
  std::vector<fs::path> files;
  const auto take = [&](const fs::directory_entry& entry) {
    const std::string extension = entry.path().extension().string();
    const bool is_text =
        extension == ".h" || extension == ".cpp" || extension == ".md" || extension == ".txt";
    if (entry.is_regular_file() && is_text) files.push_back(entry.path());
  };
  for (const auto& entry : fs::directory_iterator(root)) take(entry);
  for (const char* folder : {"core", "autograd", "nn", "optim", "tests", "examples"})
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) take(entry);
  std::sort(files.begin(), files.end());
  std::string text;
  for (const fs::path& file : files) text += read_file(file);
  return text;
}

// ---- batches

struct Batch {
  Tensor tokens, targets;  // (B, T) each; targets are the tokens one step ahead
};

// Sequences of T bytes that start at the given places.
Batch batch_at(const std::string& text, const std::vector<int64_t>& starts, int64_t T) {
  std::vector<int64_t> tokens, targets;
  for (const int64_t start : starts)
    for (int64_t t = start; t < start + T; ++t) {
      tokens.push_back(static_cast<unsigned char>(text[t]));
      targets.push_back(static_cast<unsigned char>(text[t + 1]));
    }
  const Shape shape{static_cast<int64_t>(starts.size()), T};
  return {Tensor::from(tokens, shape), Tensor::from(targets, shape)};
}

// Step s always sees the same sequences, whatever else draws random numbers.
Batch training_batch(const std::string& text, const Options& o, int step) {
  const RandomKey key{static_cast<uint64_t>(o.seed), static_cast<uint64_t>(step), Stream::data};
  const int64_t places = static_cast<int64_t>(text.size()) - o.context;
  std::vector<int64_t> starts;
  for (int b = 0; b < o.batch_size; ++b) starts.push_back(key.bits(b) % places);
  return batch_at(text, starts, o.context);
}

// Mean loss over sequences spread evenly through the held-out text.
double validation_loss(nn::models::Gpt2& model, const std::string& text, const Options& o) {
  const NoGradGuard no_grad;
  model.eval();
  const int64_t places = static_cast<int64_t>(text.size()) - o.context;
  const int64_t sequences = std::min(int64_t{o.eval_batches} * o.batch_size, places);
  double sum = 0.0;
  for (int64_t done = 0; done < sequences;) {
    std::vector<int64_t> starts;
    for (; starts.size() < static_cast<size_t>(o.batch_size) && done < sequences; ++done)
      starts.push_back(done * places / sequences);
    const Batch batch = batch_at(text, starts, o.context);
    sum +=
        model.loss(batch.tokens, batch.targets).item<double>() * static_cast<double>(starts.size());
  }
  model.train();
  return sum / static_cast<double>(sequences);
}

// ---- progress: a line that is redrawn on a terminal, and one line per validation that stays

class Progress {
 public:
  Progress(int steps, int64_t tokens_per_step) : steps_(steps), tokens_per_step_(tokens_per_step) {}

  void show(int step, double loss, double learning_rate) {
    smooth_loss_ = step == 1 ? loss : 0.95 * smooth_loss_ + 0.05 * loss;
    if (!terminal_ || (seconds() < next_draw_ && step < steps_)) return;
    next_draw_ = seconds() + 0.1;
    constexpr int kWidth = 24;
    const int filled = static_cast<int>(int64_t{kWidth} * step / steps_);
    const double left = seconds() / step * (steps_ - step);
    std::fprintf(stderr, "\r\033[K[%s%s] %d/%d  loss %.3f  lr %.1e  %.0f tokens/s  %d:%02d left",
                 std::string(filled, '#').c_str(), std::string(kWidth - filled, '.').c_str(), step,
                 steps_, smooth_loss_, learning_rate, tokens_per_second(step),
                 static_cast<int>(left) / 60, static_cast<int>(left) % 60);
  }

  void report(int step, double validation, double gradient_norm, double learning_rate) {
    if (terminal_) std::fprintf(stderr, "\r\033[K");
    std::printf(
        "step %6d  train loss %.4f  validation loss %.4f  gradient norm %.3f  lr %.2e  %.0f "
        "tokens/s\n",
        step, smooth_loss_, validation, gradient_norm, learning_rate, tokens_per_second(step));
    std::fflush(stdout);
  }

  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  double tokens_per_second(int step) const {
    return static_cast<double>(step * tokens_per_step_) / seconds();
  }

  int steps_;
  int64_t tokens_per_step_;
  Clock::time_point start_ = Clock::now();
  bool terminal_ = isatty(STDERR_FILENO);
  double smooth_loss_ = 0.0, next_draw_ = 0.0;
};

// ---- training

// Weight decay acts on matrices; biases and norms are left alone.
void add_parameters(optim::AdamW& optimizer, const nn::Module& model, const Options& o) {
  const optim::DecaySplit split = optim::split_for_decay(model.named_parameters());
  optim::AdamWOptions options{
      .lr = o.learning_rate, .beta1 = o.beta1, .beta2 = o.beta2, .weight_decay = o.weight_decay};
  optimizer.add_param_group(split.decayed, options);
  options.weight_decay = 0.0;
  optimizer.add_param_group(split.kept, options);
}

Tensor training_loss(nn::models::Gpt2& model, const Batch& batch, const Options& o) {
  const AutocastGuard precision(o.autocast ? std::optional(bf16) : std::nullopt);
  return model.loss(batch.tokens, batch.targets);
}

void train(nn::models::Gpt2& model, const std::string& train_text,
           const std::string& validation_text, const Options& o) {
  optim::AdamW optimizer;
  add_parameters(optimizer, model, o);
  const std::vector<Tensor> parameters = optimizer.parameters();
  const optim::ScheduleOptions schedule{
      .warmup = o.warmup_steps, .total = o.steps, .min_ratio = o.min_lr / o.learning_rate};
  Progress progress(o.steps, int64_t{o.batch_size} * o.context);

  for (int step = 1; step <= o.steps; ++step) {
    const Batch batch = training_batch(train_text, o, step);
    optimizer.zero_grad();
    const Tensor loss = training_loss(model, batch, o);
    loss.backward();

    const double norm = o.grad_clip > 0 ? optim::clip_grad_norm(parameters, o.grad_clip)
                                        : optim::grad_norm(parameters);
    optimizer.scale_lr(optim::cosine(step, schedule));
    optimizer.step();

    progress.show(step, loss.item<double>(), optimizer.lr());
    if (step % o.eval_interval == 0 || step == o.steps)
      progress.report(step, validation_loss(model, validation_text, o), norm, optimizer.lr());
  }
  std::printf("trained in %.1f s\n", progress.seconds());
}

// Continues a piece of the held-out text that begins with a line.
void print_sample(nn::models::Gpt2& model, const std::string& text, const Options& o) {
  const size_t start = std::min(text.find('\n') + 1, text.size() - o.context);
  const std::string prompt = text.substr(start, o.context);
  std::vector<int64_t> tokens;
  for (const unsigned char byte : prompt) tokens.push_back(byte);
  std::printf("\n--- %d bytes after a prompt from the held-out text\n%s", o.sample_tokens,
              prompt.c_str());
  std::printf("\n--- the model continues\n");
  const std::vector<int64_t> continuation = nn::generate(model, tokens,
                                                         {.max_new_tokens = o.sample_tokens,
                                                          .temperature = o.temperature,
                                                          .top_k = o.top_k,
                                                          .seed = static_cast<uint64_t>(o.seed)});
  for (const int64_t byte : continuation)
    std::putchar(byte == '\n' || byte == '\t' || byte >= 32 ? static_cast<int>(byte) : ' ');
  std::printf("\n---\n");
}

int run(const Options& o) {
  if (o.threads > 0) set_num_threads(o.threads);
  manual_seed(static_cast<uint64_t>(o.seed));

  const std::string text = o.data.empty() ? own_text() : read_file(o.data);
  const size_t border = text.size() / 10 * 9;  // the last tenth is held out
  const std::string train_text = text.substr(0, border), validation_text = text.substr(border);
  TENDRIL_CHECK(static_cast<int64_t>(validation_text.size()) > o.context,
                "[quickstart] the text is too small; got ", text.size(),
                " bytes, of which the last tenth must be longer than --context ", o.context);

  nn::models::Gpt2 model({.vocab_size = 256,
                          .n_positions = o.context,
                          .n_layer = o.n_layer,
                          .n_head = o.n_head,
                          .n_embd = o.n_embd,
                          .embd_pdrop = o.dropout,
                          .attn_pdrop = o.dropout,
                          .resid_pdrop = o.dropout});
  std::printf("text: %s, %zu bytes to learn, %zu held out\n",
              o.data.empty() ? "this repository" : o.data.c_str(), train_text.size(),
              validation_text.size());
  std::printf("model: %lld parameters, %d threads\n",
              static_cast<long long>(model.parameter_count()), num_threads());

  train(model, train_text, validation_text, o);
  model.save_pretrained(o.out);
  std::printf("weights: %s/model.safetensors, with config.json\n", o.out.c_str());
  print_sample(model, validation_text, o);
  return 0;
}

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Trains a byte-level GPT and prints a sample of what it learned.", "quickstart");
  declare(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
