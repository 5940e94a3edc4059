// YAML files of arguments; and files that are broken in every possible way.
#include <doctest/doctest.h>

#include <random>

#include <tendril/core/error.h>

#include "argument_values.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

TrainingArguments yaml(const std::string& text) { return from_file_with("train.yaml", text); }
std::string yaml_error(const std::string& text) {
  return error_of([&] { yaml(text); });
}

const char* const kConfig = R"(# A comment
output_dir: out/"x"   # another
run_name: "quoted: # text"
num_train_epochs: 2
learning_rate: 1e-4
adam_epsilon: 1.e-8
bf16: yes
tf32: ~
eval_strategy: no
save_strategy: steps
optim_args: rank=8, scale=0.5
optim_target_modules:
  - attn
  - 'mlp'
report_to: [csv, jsonl]
lr_scheduler_type: cosine_with_min_lr
lr_scheduler_kwargs:
  min_lr: 1e-5
  num_cycles: 0.5
  nested: {a: [1, true, null, "2", 3.5, no, -4, +5]}
)";

const char* const kJsonConfig = R"({
  "output_dir": "out/\u00e9", "num_train_epochs": 2.5e0, "learning_rate": 1e-4, "bf16": true,
  "tf32": null, "eval_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.2, "seed": -3,
  "report_to": ["csv", "jsonl"], "lr_scheduler_kwargs": {"min_lr": 1e-5, "deep": [{"x": []}]}
})";

// One random change of the kind that editors, disks and people make.
std::string mutate(std::string text, std::mt19937& random) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : random() % n; };
  static const std::string kPieces[] = {"\n",
                                        ":",
                                        ": ",
                                        "- ",
                                        "[",
                                        "]",
                                        "{",
                                        "}",
                                        "\"",
                                        "'",
                                        "&a ",
                                        "*a",
                                        "<<: ",
                                        "!!str ",
                                        "---\n",
                                        "...\n",
                                        "|",
                                        ">",
                                        "#",
                                        "\t",
                                        ",",
                                        "? ",
                                        "%YAML 1.2\n",
                                        "\\",
                                        "\\u",
                                        "1e999",
                                        "null",
                                        "nan",
                                        "-",
                                        "\xFF",
                                        std::string(1, '\0'),
                                        "\xEF\xBB\xBF",
                                        "@",
                                        "`"};
  for (size_t i = 0, changes = 1 + below(3); i < changes; ++i) {
    const size_t place = below(text.size() + 1);
    switch (below(5)) {
      case 0:
        text.insert(place, kPieces[below(std::size(kPieces))]);
        break;
      case 1:
        text.erase(place, 1 + below(8));
        break;
      case 2:
        if (place < text.size()) text[place] = static_cast<char>(below(256));
        break;
      case 3:
        text.insert(place, text.substr(below(text.size()), below(40)));
        break;
      default:
        text.resize(place);
    }
  }
  return text;
}

}  // namespace

TEST_SUITE_BEGIN("training_arguments_yaml");

TEST_CASE("YAML words mean what the field wants") {
  if (!has_yaml()) return;
  const TrainingArguments args = yaml(kConfig);
  CHECK(args.output_dir == "out/\"x\"");
  CHECK(*args.run_name == "quoted: # text");
  CHECK(args.num_train_epochs == 2.0);
  CHECK(args.learning_rate == 1e-4);  // a text to YAML 1.1 readers
  CHECK(args.adam_epsilon == 1e-8);
  CHECK(args.bf16);
  CHECK_FALSE(args.tf32.has_value());
  CHECK(args.eval_strategy == IntervalStrategy::no);  // false to YAML 1.1 readers
  CHECK(args.save_strategy == SaveStrategy::steps);
  CHECK(*args.optim_args == "rank=8, scale=0.5");
  CHECK(args.optim_target_modules == std::vector<std::string>{"attn", "mlp"});
  CHECK(args.report_to == std::vector<std::string>{"csv", "jsonl"});
  CHECK(args.lr_scheduler_kwargs.dump() ==
        "{\"min_lr\":1e-05,\"num_cycles\":0.5,"
        "\"nested\":{\"a\":[1,true,null,\"2\",3.5,\"no\",-4,5]}}");

  CHECK(*yaml("run_name: 007").run_name == "007");  // a name that looks like a number
  CHECK(*yaml("run_name: true").run_name == "true");
  CHECK(yaml("report_to: csv").report_to == std::vector<std::string>{"csv"});
  CHECK(yaml("lr_scheduler_kwargs: '{\"power\": 2}'").lr_scheduler_kwargs.dump() ==
        "{\"power\":2}");
  CHECK(yaml("run_name: !!str 5\nmax_steps: +5").max_steps == 5);
  CHECK(yaml("").to_json_string() == TrainingArguments().to_json_string());
  CHECK(yaml("# all commented out\n").to_json_string() == TrainingArguments().to_json_string());
  CHECK(from_file_with("train.yml", "---\nmax_steps: 3\n...\n").max_steps == 3);
}

TEST_CASE("YAML errors name file and line") {
  if (!has_yaml()) return;
  CHECK(contains_text(yaml_error("seed: 1\nlearning_rate: fast\n"),
                      "train.yaml, line 2: learning_rate must be a finite number; got \"fast\""));
  CHECK(contains_text(yaml_error("seed: 1\n\nlearning_rte: 1\n"),
                      "train.yaml, line 3: there is no argument named learning_rte; did you mean "
                      "learning_rate?"));
  const std::pair<const char*, const char*> mistakes[] = {
      {"seed: 1\nseed: 2", "line 2: seed is set twice"},
      {"lr_scheduler_kwargs: {a: 1, a: 2}", "line 1: a is set twice"},
      {"seed: [1", "line 1: end of sequence flow not found"},
      {"seed: 1\n  bad: 2", "train.yaml, line 2: "},
      {"- seed", "line 1: the arguments must be one mapping"},
      {"just text", "line 1: the arguments must be one mapping"},
      {"[1]: 2", "line 1: a name must be plain text"},
      {"lr_scheduler_kwargs: {[1]: 2}", "a name must be plain text"},
      {"seed: !!int 5", "tags are not supported; got tag:yaml.org,2002:int"},
      {"seed: 1\n---\nseed: 2", "line 2: there is text after the arguments"},
      {"{seed: 1},\n", "there is text after the arguments"},  // without end to yaml-cpp
      {"seed: \"5\"", "seed must be an integer; got \"5\""},
      {"seed:", "seed must be an integer; got null"},
      {"output_dir: ~", "output_dir must be text; got null"},
      {"learning_rate: .inf", "learning_rate must be a finite number; got \".inf\""},
      {"learning_rate: inf", "learning_rate must be a finite number; got \"inf\""},
      {"bf16: maybe", "bf16 must be true or false; got \"maybe\""},
      {"report_to: {a: 1}", "report_to must be a list of texts; got {\"a\":1}"},
      {"seed: 1\xFF", "not valid UTF-8"},
      {"lr_scheduler_kwargs: &a {x: *a}", "nested too deeply"},
      {"learning_rate: -1", "learning_rate must be finite and at least 0; got -1"},
  };
  for (const auto& [text, message] : mistakes) {
    CAPTURE(text);
    const std::string error = yaml_error(text);
    CHECK_MESSAGE(contains_text(error, message), error);
    CHECK(contains_text(error, "train.yaml"));
  }
}

TEST_CASE("YAML aliases cannot blow up") {
  if (!has_yaml()) return;
  // Eight lines of nine aliases each: 9^8 values.
  std::string bomb = "debug: &l0 [x]\n";
  for (int i = 1; i <= 8; ++i) {
    bomb += "x" + std::to_string(i) + ": &l" + std::to_string(i) + " [";
    for (int k = 0; k < 9; ++k) bomb += (k ? ", *l" : "*l") + std::to_string(i - 1);
    bomb += "]\n";
  }
  CHECK(contains_text(yaml_error(bomb), "there are too many values"));
  CHECK(contains_text(yaml_error("lr_scheduler_kwargs: " + std::string(100'000, '[')),
                      "train.yaml, line 1: nested too deeply"));
}

TEST_CASE("fuzz: a mutated configuration is read or refused, never worse") {
  std::mt19937 random(20240601);
  int read = 0, refused = 0;
  const auto attempt = [&](const std::string& name, const std::string& text) {
    try {
      from_file_with(name, text).to_json_string();
      ++read;
    } catch (const Error&) {  // anything else ends the test
      ++refused;
    }
  };
  const bool yaml_too = has_yaml();
  for (int i = 0; i < 1500; ++i) {
    attempt("a.json", mutate(kJsonConfig, random));
    if (!yaml_too) continue;
    attempt("a.yaml", mutate(kConfig, random));
    attempt("a.yaml", mutate(kJsonConfig, random));
  }
  // Both happen, or the mutations would be of no use.
  CHECK(read > (yaml_too ? 50 : 10));
  CHECK(refused > 500);
}

TEST_SUITE_END();
