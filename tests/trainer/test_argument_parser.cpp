// The command line: a program's own options beside TrainingArguments, files, precedence, --help and
// mistakes.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <sstream>

#include <tendril/core/error.h>
#include <tendril/trainer/argument_parser.h>
#include <tendril/trainer/training_arguments.h>

#include "argument_values.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

std::vector<const char*> argv_of(const std::vector<std::string>& words) {
  std::vector<const char*> argv = {"program"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  return argv;
}

bool parse(ArgumentParser& parser, const std::vector<std::string>& words) {
  const std::vector<const char*> argv = argv_of(words);
  return parser.parse(static_cast<int>(argv.size()), argv.data());
}

TrainingArguments parsed(const std::vector<std::string>& words, TrainingArguments args = {}) {
  ArgumentParser parser("program");
  parser.add(args);
  CHECK(parse(parser, words));
  return args;
}

std::string mistake(const std::vector<std::string>& words) {
  TrainingArguments args;
  ArgumentParser parser("program");
  parser.add(args);
  return error_of([&] { parse(parser, words); });
}

// What a child process that runs `body` prints on stdout or stderr, and its exit status.
template <class Body>
std::pair<std::string, int> run_apart(int stream, Body&& body) {
  std::fflush(nullptr);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    // The other stream goes nowhere.
    ::dup2(::open("/dev/null", O_WRONLY), STDOUT_FILENO + STDERR_FILENO - stream);
    ::dup2(ends[1], stream);
    ::close(ends[0]);
    ::close(ends[1]);
    body();
    ::_exit(99);  // not reached: body ends the program
  }
  ::close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  ::close(ends[0]);
  int status = -1;
  ::waitpid(child, &status, 0);
  return {text, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

}  // namespace

TEST_SUITE_BEGIN("argument_parser");

TEST_CASE("every field is read from the command line as from JSON") {
  for (const ArgumentSample& sample : kArgumentSamples) {
    CAPTURE(sample.name);
    std::vector<std::string> words;
    const Json settings = settings_of(sample);
    for (const auto& [name, value] : settings.members()) {
      words.push_back("--" + name);
      words.push_back(value.is_string() ? value.as_string() : value.dump());
    }
    const std::string expected = TrainingArguments::from_json(settings, "test").to_json_string();
    CHECK(parsed(words).to_json_string() == expected);
    // --name=value, with dashes
    std::vector<std::string> equations;
    for (size_t i = 0; i < words.size(); i += 2) {
      std::replace(words[i].begin() + 2, words[i].end(), '_', '-');
      equations.push_back(words[i] + "=" + words[i + 1]);
    }
    CHECK(parsed(equations).to_json_string() == expected);
  }
}

TEST_CASE("switches") {
  CHECK(parsed({"--bf16"}).bf16);
  CHECK(parsed({"--bf16", "--max_steps", "3"}).bf16);
  CHECK(parsed({"--bf16", "true"}).bf16);
  CHECK(parsed({"--bf16=Yes"}).bf16);
  CHECK_FALSE(parsed({"--bf16=False"}, {.bf16 = true}).bf16);
  CHECK_FALSE(parsed({"--bf16", "0"}, {.bf16 = true}).bf16);
  CHECK_FALSE(parsed({"--no_bf16"}, {.bf16 = true}).bf16);
  CHECK_FALSE(parsed({"--no-bf16"}, {.bf16 = true}).bf16);
  CHECK_FALSE(parsed({"--bf16", "--no_bf16"}).bf16);  // the last one counts
  CHECK(parsed({"--no_bf16", "--bf16"}).bf16);
  CHECK(parsed({"--bf16", "false", "--bf16", "true"}).bf16);
  CHECK(parsed({"--tf32"}).tf32 == true);
  CHECK(parsed({"--no_tf32"}).tf32 == false);
  CHECK_FALSE(parsed({"--tf32", "null"}, {.tf32 = true}).tf32.has_value());
  CHECK(mistake({"--bf16", "maybe"}) == "[arguments] --bf16 must be true or false; got \"maybe\"");
  CHECK(contains_text(mistake({"--bf16="}), "--bf16 must be true or false; got \"\""));
  CHECK(contains_text(mistake({"--no_bf16=true", "--no_bf16=false"}), "takes no value"));
}

TEST_CASE("numbers, texts and null") {
  CHECK(parsed({"--max_steps", "-1"}, {.max_steps = 5}).max_steps == -1);
  CHECK(parsed({"--learning_rate", "+3E-4"}).learning_rate == 3e-4);
  CHECK(parsed({"--max_steps", "1", "--max_steps", "2"}).max_steps == 2);
  CHECK(*parsed({"--run_name", "-x"}).run_name == "-x");
  CHECK(*parsed({"--run_name=a=b"}).run_name == "a=b");
  CHECK(*parsed({"--run_name="}).run_name == "");
  CHECK(parsed({"--fsdp=", "--bf16"}).bf16);  // the empty text does not take the next word
  CHECK_FALSE(parsed({"--run_name", "null"}, {.run_name = "a"}).run_name.has_value());
  CHECK(parsed({"--lr_scheduler_kwargs", "null"}, {.lr_scheduler_kwargs = Json::object()})
            .lr_scheduler_kwargs.is_null());
  for (const char* bad : {"fast", "1x", "", " 1", "nan", "inf", "1e999", "+-1", "0x1p3"}) {
    CAPTURE(bad);
    CHECK(contains_text(mistake({"--learning_rate", bad}),
                        "--learning_rate must be a finite number; got \""));
  }
  CHECK(contains_text(mistake({"--max_steps", "1e3"}), "--max_steps must be an integer"));
  CHECK(contains_text(mistake({"--eval_strategy", "often"}),
                      "--eval_strategy must be one of no, steps, epoch; got \"often\""));
  CHECK(
      contains_text(mistake({"--lr_scheduler_kwargs", "{x}"}), "--lr_scheduler_kwargs: expected"));
  CHECK(contains_text(mistake({"--run_name", "\xFF"}), "word 2 of the command line is not valid"));
}

TEST_CASE("lists: words, commas, repeats, JSON") {
  const std::vector<std::string> both = {"csv", "jsonl"};
  CHECK(parsed({"--report_to", "csv", "jsonl"}).report_to == both);
  CHECK(parsed({"--report_to", "csv", "jsonl", "--bf16"}).report_to == both);
  CHECK(parsed({"--report_to", "csv,jsonl"}).report_to == both);
  CHECK(parsed({"--report_to=csv, jsonl"}).report_to == both);
  CHECK(parsed({"--report_to", "csv", "--report_to", "jsonl"}).report_to == both);
  CHECK(parsed({"--report_to", "[\"csv\", \"jsonl\"]"}).report_to == both);
  CHECK(parsed({"--report_to="}).report_to.empty());
  CHECK(parsed({"--optim_target_modules", "[\"a{1,2}\"]"}).optim_target_modules ==
        std::vector<std::string>{"a{1,2}"});
  CHECK_FALSE(parsed({"--label_names", "null"}, {.label_names = both}).label_names.has_value());
  CHECK(contains_text(mistake({"--report_to", "[csv]"}), "--report_to: "));
}

TEST_CASE("mistakes name the flag and the way out") {
  CHECK(mistake({"--learning_rte", "1"}) ==
        "[arguments] there is no argument named learning_rte; did you mean learning_rate?");
  CHECK(contains_text(mistake({"--max-step=5"}), "did you mean max_steps?"));
  CHECK(contains_text(mistake({"--push_to_hub"}), "push_to_hub does not apply: "));
  CHECK(contains_text(mistake({"-max_steps", "5"}), "write --max_steps"));
  CHECK(contains_text(mistake({"5"}), "unexpected word \"5\"; arguments begin with --"));
  CHECK(contains_text(mistake({"--max_steps", "5", "6"}), "unexpected word \"6\""));
  CHECK(contains_text(mistake({"--"}), "[arguments] "));
  CHECK(contains_text(mistake({"-"}), "[arguments] "));
  CHECK(contains_text(mistake({"--max_steps"}), "[arguments] --max_steps"));
  CHECK(contains_text(mistake({"--output_dir", "--bf16"}),
                      "--output_dir needs a value; got \"--bf16\""));
  CHECK(contains_text(mistake({"--bf16", "--fp16"}), "bf16 and fp16 cannot both be on"));
}

TEST_CASE("a program's own options stand beside the training arguments") {
  TrainingArguments args;
  std::string data = "none", more = "m";
  int64_t context = 64;
  int layers = 2;
  double rate = 0.5;
  bool verbose = false, fast = true;
  std::optional<std::string> name;
  std::optional<int64_t> limit = 3;
  std::optional<double> share;
  std::vector<std::string> files;
  ArgumentParser parser("quickstart", "Trains a small GPT.");
  parser.add("--data", data, "Text to learn").add("--more", more, "More of it");
  parser.add("--context-length", context, "Tokens").add("--layers", layers, "Blocks");
  parser.add("--rate", rate, "A rate").add("--verbose", verbose, "Say more");
  parser.add("--fast", fast, "Be fast").add("--name", name, "A name");
  parser.add("--limit", limit, "A limit").add("--share", share, "A share");
  parser.add("--files", files, "Files").add(args);

  CHECK(parse(parser, {"--data",      "a.txt",      "--context_length",
                       "128",         "--layers=3", "--rate",
                       "1e-2",        "--verbose",  "--no_fast",
                       "--name",      "x",          "--limit",
                       "null",        "--share",    "1",
                       "--files",     "a",          "b",
                       "--max_steps", "10"}));
  CHECK(data == "a.txt");
  CHECK(more == "m");
  CHECK(context == 128);
  CHECK(layers == 3);
  CHECK(rate == 1e-2);
  CHECK(verbose);
  CHECK_FALSE(fast);
  CHECK(*name == "x");
  CHECK_FALSE(limit.has_value());
  CHECK(*share == 1.0);
  CHECK(files == std::vector<std::string>{"a", "b"});
  CHECK(args.max_steps == 10);
  CHECK(contains_text(error_of([&] {
                        parse(parser, {"--contxt-length", "1"});
                      }),
                      "did you mean context_length?"));
  CHECK(contains_text(error_of([&] {
                        parse(parser, {"--layers", "3000000000"});
                      }),
                      "--layers must be an integer of 32 bits; got"));
}

TEST_CASE("names that are taken or no names are errors") {
  TrainingArguments args;
  int value = 0;
  bool flag = false;
  ArgumentParser parser("program");
  parser.add(args);
  const auto refused = [&](const std::string& name) {
    return error_of([&] { parser.add(name, value, "help"); });
  };
  CHECK(contains_text(refused("--seed"), "--seed cannot be added: there is --seed"));
  CHECK(contains_text(refused("--max-steps"), "--max_steps cannot be added"));
  CHECK(contains_text(refused("--no_bf16"), "there is --bf16"));
  CHECK(contains_text(refused("--help"), "the parser's own"));
  CHECK(contains_text(refused("--config"), "the parser's own"));
  for (const char* bad : {"", "-", "--", "---x", "data", "-d", "--a b", "--a=b", "--a,--b"}) {
    CAPTURE(bad);
    CHECK(contains_text(refused(bad), "an option's name is two dashes"));
  }
  ArgumentParser other("program");
  other.add("--no_way", value, "help");
  CHECK(contains_text(error_of([&] { other.add("--way", flag, "help"); }), "there is --no_way"));
  CHECK(contains_text(error_of([&] { parser.add(args); }), "cannot be added"));
  CHECK(contains_text(error_of([&] { other.add(args, {"Magic"}); }), "no section named Magic"));
}

TEST_CASE("command line over file over the program's defaults over the library's") {
  const TemporaryFolder folder(memory_folder());
  const std::string file = folder.file("train.json");
  write_bytes(file, R"({"learning_rate": 0.02, "max_steps": 20, "context_length": 20, "seed": 20,
                        "report_to": ["csv", "jsonl"]})");
  const std::vector<std::vector<std::string>> ways = {
      {file, "--max_steps", "30", "--report_to", "html"},
      {"--config", file, "--max_steps", "30", "--report_to", "html"},
      {"--max-steps=30", "--report_to=html", "--config=" + file},
      {"--bf16", "--max_steps", "30", file, "--report_to", "html"}};
  for (size_t i = 0; i + 1 < ways.size(); ++i) {
    CAPTURE(i);
    TrainingArguments args{.max_steps = 10, .learning_rate = 0.01, .weight_decay = 0.01};
    int context = 10;
    ArgumentParser parser("program");
    parser.add("--context_length", context, "Tokens").add(args);
    CHECK(parse(parser, ways[i]));
    CHECK(args.max_steps == 30);                                // the line
    CHECK(args.report_to == std::vector<std::string>{"html"});  // in place of the file's list
    CHECK(args.learning_rate == 0.02);                          // the file
    CHECK(args.seed == 20);
    CHECK(context == 20);
    CHECK(args.weight_decay == 0.01);  // the program
    CHECK(args.adam_beta1 == 0.9);     // the library
  }
  // A switch takes no file for its value, and says so.
  CHECK(contains_text(mistake({"--bf16", file}), "--bf16 must be true or false"));
}

TEST_CASE("mistakes around files") {
  const TemporaryFolder folder(memory_folder());
  const std::string file = folder.file("train.json");
  write_bytes(file, R"({"contxt": 1})");
  CHECK(contains_text(mistake({file}), "train.json: there is no argument named contxt"));
  CHECK(contains_text(mistake({"/no/such.yaml"}), "cannot read /no/such.yaml"));
  CHECK(contains_text(mistake({"--config", "a.txt"}), "must end in .json, .yaml or .yml"));
  CHECK(contains_text(mistake({file, "--config", file}), "there are two files of arguments"));
  CHECK(contains_text(mistake({"--config", file, "--config", file}), "--config is given twice"));
  CHECK(contains_text(mistake({file, file}), "unexpected word"));
  CHECK(contains_text(mistake({"--config"}), "--config"));
  // A file alone need not be valid: the line completes it.
  write_bytes(file, R"({"load_best_model_at_end": true})");
  CHECK(parsed({file, "--eval_strategy", "steps"}).load_best_model_at_end);
}

TEST_CASE("help is a reference of all names, defaults and choices in 100 columns") {
  TrainingArguments args{.learning_rate = 3e-4};
  std::string data = "shakespeare.txt";
  ArgumentParser parser("quickstart", "Trains a small GPT.");
  parser.add("--data", data, "Text to learn").add(args, {"Checkpoints", "Logging"});
  CHECK_FALSE(parse(parser, {"--max_steps", "5", "--help"}));
  CHECK(args.max_steps == -1);  // nothing was read
  CHECK_FALSE(parse(parser, {"-h"}));
  CHECK_FALSE(parse(parser, {"--nonsense", "--help"}));

  const std::string help = parser.help();
  const Json fields = args.to_json();
  for (const auto& member : fields.members()) {
    CAPTURE(member.first);
    const size_t at = help.find("\n  --" + member.first);
    REQUIRE(at != std::string::npos);
    const char after = help[at + 5 + member.first.size()];
    CHECK((after == ' ' || after == '\n'));
  }
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    CHECK_MESSAGE(line.size() <= 100, line);
    CHECK_MESSAGE(!line.ends_with(' '), line);
  }
  CHECK(contains_text(help, "Usage: quickstart [FILE.json | FILE.yaml] [--name value ...]"));
  CHECK(contains_text(help, "Trains a small GPT."));
  CHECK(contains_text(
      help, "--data TEXT                     Text to learn (default: shakespeare.txt)\n"));
  CHECK(contains_text(help, "Highest learning rate (default: 3e-04)\n"));  // the program's default
  CHECK(contains_text(help, "When to evaluate while training; one of no, steps, epoch\n"));
  CHECK(contains_text(help, "--bf16 "));
  const auto at = [&](const char* section) {
    return help.find(std::string("\n") + section + ":\n");
  };
  CHECK(at("Options") < at("Checkpoints"));
  CHECK(at("Checkpoints") < at("Logging"));
  CHECK(at("Logging") < at("Training"));
  CHECK(at("Training") < at("Optimizer and schedule"));
  CHECK(at("Several processes") != std::string::npos);
}

TEST_CASE("parse_or_exit ends the program for help and for mistakes") {
  const auto run = [](int stream, const std::vector<std::string>& words) {
    return run_apart(stream, [&] {
      const std::vector<const char*> argv = argv_of(words);
      TrainingArguments::parse(static_cast<int>(argv.size()), argv.data());
    });
  };
  const auto [help, help_status] = run(STDOUT_FILENO, {"--help"});
  CHECK(help_status == 0);
  CHECK(help.starts_with("Usage: program "));
  const auto [error, error_status] = run(STDERR_FILENO, {"--max_steps", "many"});
  CHECK(error_status == 1);
  CHECK(error == "[arguments] --max_steps must be an integer; got \"many\"\nTry program --help.\n");
  CHECK(run(STDOUT_FILENO, {"--max_steps", "many"}).first.empty());

  const char* const argv[] = {"program", "--max_steps", "4"};
  CHECK(TrainingArguments::parse(3, argv).max_steps == 4);
  CHECK(TrainingArguments::parse(0, nullptr).max_steps == -1);
}

TEST_SUITE_END();
