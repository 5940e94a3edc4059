// Trains a small GPT on text, byte by byte, with the Trainer, and prints what it learned.
//
//   quickstart                          the text is this repository's own sources and documents
//   quickstart --data shakespeare.txt   or any file
//   quickstart --resume                 goes on from the latest checkpoint, to the bit
//   quickstart --help                   sizes, and every training argument
//
// output_dir (out/quickstart) gets checkpoints, log.jsonl, report.html and the final model.
#include <tendril/tendril.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace fs = std::filesystem;
using namespace tendril;

// ---- options. The defaults are nanoGPT's setting for a CPU.

struct Options {
  std::string data;
  int64_t context = 64, n_layer = 4, n_head = 4, n_embd = 128;
  double dropout = 0.0;
  int64_t eval_windows = 240;
  int threads = 0;
  bool resume = false, estimate_memory = false;
  int64_t sample_tokens = 400, top_k = 40;
  double temperature = 0.8;
};

TrainingArguments default_arguments() {
  TrainingArguments args;
  args.output_dir = "out/quickstart";
  args.max_steps = 2000;
  args.per_device_train_batch_size = args.per_device_eval_batch_size = 12;
  args.seed = 1337;
  args.learning_rate = 1e-3;
  args.lr_scheduler_type = SchedulerType::cosine_with_min_lr;
  args.lr_scheduler_kwargs = Json::object().set("min_lr_rate", 0.1);
  args.warmup_steps = 100;
  args.weight_decay = 0.1;
  args.adam_beta2 = 0.99;
  args.eval_strategy = IntervalStrategy::steps;
  args.eval_steps = args.logging_steps = args.save_steps = 250;
  args.save_total_limit = 2;
  args.load_best_model_at_end = true;
  args.enable_jit_checkpoint = true;  // Ctrl-C saves
  args.include_num_input_tokens_seen = "all";
  args.report_to = {"jsonl", "html"};
  return args;
}

void read_command_line(int argc, char** argv, Options& o, TrainingArguments& args) {
  ArgumentParser parser("quickstart",
                        "Trains a byte-level GPT and prints a sample of what it learned.");
  parser.add("--data", o.data, "Text to learn; without it, this repository's own");
  parser.add("--resume", o.resume, "Go on from the latest checkpoint in output_dir");
  parser.add("--estimate_memory", o.estimate_memory, "Print what training will need, and stop");
  parser.add("--context", o.context, "Bytes per sequence");
  parser.add("--n_layer", o.n_layer, "Transformer blocks");
  parser.add("--n_head", o.n_head, "Attention heads");
  parser.add("--n_embd", o.n_embd, "Channels, a multiple of n_head");
  parser.add("--dropout", o.dropout, "Probability to drop, at least 0 and below 1");
  parser.add("--eval_windows", o.eval_windows, "Held-out sequences per evaluation; 0 takes all");
  parser.add("--threads", o.threads, "CPU threads; 0 takes all cores");
  parser.add("--sample_tokens", o.sample_tokens, "Bytes to generate at the end");
  parser.add("--temperature", o.temperature,
             "Below 1 safer, above 1 wilder; 0 takes the likeliest");
  parser.add("--top_k", o.top_k, "Sample among the k likeliest bytes; 0 among all");
  parser.add(args);
  parser.parse_or_exit(argc, argv);
  TENDRIL_CHECK(o.context > 0, "[quickstart] --context must be above 0; got ", o.context);
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
  for (const char* folder :
       {"core", "autograd", "nn", "optim", "dist", "trainer", "tests", "examples"})
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) take(entry);
  std::sort(files.begin(), files.end());
  std::string text;
  for (const fs::path& file : files) text += read_file(file);
  return text;
}

// At most `count` windows, spread evenly.
std::shared_ptr<const Dataset> sample_of(const std::shared_ptr<const Dataset>& windows,
                                         int64_t count) {
  const int64_t size = windows->size().value();
  if (count <= 0 || count >= size) return windows;
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < count; ++i) indices.push_back(i * size / count);
  return std::make_shared<SubsetDataset>(windows, std::move(indices));
}

// Continues a piece of the held-out text that begins with a line.
void print_sample(nn::models::Gpt2& model, const std::string& text, const Options& o,
                  uint64_t seed) {
  const auto context = static_cast<size_t>(o.context);
  const size_t start = std::min(text.find('\n') + 1, text.size() - context);
  const std::string prompt = text.substr(start, context);
  std::vector<int64_t> tokens;
  for (const unsigned char byte : prompt) tokens.push_back(byte);
  std::printf("\n--- %lld bytes after a prompt from the held-out text\n%s",
              static_cast<long long>(o.sample_tokens), prompt.c_str());
  std::printf("\n--- the model continues\n");
  const std::vector<int64_t> continuation = nn::generate(model, tokens,
                                                         {.max_new_tokens = o.sample_tokens,
                                                          .temperature = o.temperature,
                                                          .top_k = o.top_k,
                                                          .seed = seed});
  for (const int64_t byte : continuation)
    std::putchar(byte == '\n' || byte == '\t' || byte >= 32 ? static_cast<int>(byte) : ' ');
  std::printf("\n---\n");
}

void run(const Options& o, const TrainingArguments& args) {
  if (dist::LaunchEnvironment::read().rank > 0 && !std::freopen("/dev/null", "w", stdout))
    fail("[quickstart] cannot open /dev/null");  // of several processes the first one speaks
  if (o.threads > 0) set_num_threads(o.threads);
  const std::string text = o.data.empty() ? own_text() : read_file(o.data);
  const size_t border = text.size() / 10 * 9;  // the last tenth is held out
  const std::string learned = text.substr(0, border), held_out = text.substr(border);
  TENDRIL_CHECK(static_cast<int64_t>(held_out.size()) > o.context,
                "[quickstart] the text is too small; got ", text.size(),
                " bytes, of which the last tenth must be longer than --context ", o.context);
  // A training sequence may begin at any byte; those held out stand side by side.
  const auto train = TextDataset::bytes(learned, o.context, /*stride=*/1);
  const auto eval = sample_of(TextDataset::bytes(held_out, o.context), o.eval_windows);

  manual_seed(static_cast<uint64_t>(args.seed));
  nn::models::Gpt2 model({.vocab_size = 256,
                          .n_positions = o.context,
                          .n_layer = o.n_layer,
                          .n_head = o.n_head,
                          .n_embd = o.n_embd,
                          .embd_pdrop = o.dropout,
                          .attn_pdrop = o.dropout,
                          .resid_pdrop = o.dropout});
  std::printf("text: %s, %zu bytes to learn, %zu held out\n",
              o.data.empty() ? "this repository" : o.data.c_str(), learned.size(), held_out.size());
  std::printf("model: %lld parameters, %d threads\n",
              static_cast<long long>(model.parameter_count()), num_threads());
  std::fflush(stdout);

  if (o.estimate_memory)
    return void(std::printf("%s", describe(estimate_memory(model, args, o.context)).c_str()));

  auto trainer = std::make_unique<Trainer>(
      model, args, TrainerOptions{.train_dataset = train, .eval_dataset = eval});
  const TrainOutput output = trainer->train(o.resume ? Resume::latest_if_any() : Resume());
  std::printf("trained in %.1f s\n", output.metrics.at("train_runtime"));
  if (trainer->state().global_step < trainer->state().max_steps)
    return void(std::printf("stopped at step %lld; --resume goes on from there\n",
                            static_cast<long long>(trainer->state().global_step)));
  const Metrics metrics = trainer->evaluate();
  std::printf("validation loss %.4f\n", metrics.at("eval_loss"));
  trainer->save_model();
  std::printf("weights: %s/model.safetensors, with config.json\n", args.output_dir.c_str());
  trainer.reset();  // a sharded model is whole again
  model.to(Device::cpu());
  print_sample(model, held_out, o, static_cast<uint64_t>(args.seed));
}

int main(int argc, char** argv) {
  Options options;
  TrainingArguments args = default_arguments();
  try {
    read_command_line(argc, argv, options, args);
    run(options, args);
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
