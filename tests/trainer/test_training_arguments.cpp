// TrainingArguments as data: defaults, every field to JSON, YAML and back, what files may say, and
// the values derived from fields.
#include <doctest/doctest.h>

#include <cstdlib>
#include <set>

#include <tendril/core/error.h>
#include <tendril/core/log.h>
#include <tendril/trainer/training_arguments.h>

#include "../file_tools.h"
#include "argument_values.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

TrainingArguments from(const std::string& json) {
  return TrainingArguments::from_json(Json::parse(json, "test"), "config.json");
}
std::string from_error(const std::string& json) {
  return error_of([&] { from(json); });
}

std::string file_error(const std::string& name, const std::string& text) {
  return error_of([&] { from_file_with(name, text); });
}

}  // namespace

TEST_SUITE_BEGIN("training_arguments");

TEST_CASE("arguments are a plain struct with the defaults of the Hugging Face Trainer") {
  const TrainingArguments args{
      .output_dir = "out", .num_train_epochs = 1, .learning_rate = 3e-4, .bf16 = true};
  CHECK(args.output_dir == "out");
  CHECK(args.num_train_epochs == 1.0);
  CHECK(args.learning_rate == 3e-4);
  CHECK(args.bf16);
  args.validate();

  const TrainingArguments defaults;
  CHECK(defaults.output_dir == "trainer_output");
  CHECK(defaults.num_train_epochs == 3.0);
  CHECK(defaults.max_steps == -1);
  CHECK(defaults.per_device_train_batch_size == 8);
  CHECK(defaults.learning_rate == 5e-5);
  CHECK(defaults.optim == "adamw_torch");
  CHECK(defaults.adam_beta2 == 0.999);
  CHECK(defaults.lr_scheduler_type == SchedulerType::linear);
  CHECK(defaults.eval_strategy == IntervalStrategy::no);
  CHECK(defaults.save_strategy == SaveStrategy::steps);
  CHECK(defaults.save_steps == 500.0);
  CHECK(defaults.logging_steps == 500.0);
  CHECK(defaults.seed == 42);
  CHECK(defaults.average_tokens_across_devices);
  CHECK(defaults.report_to == std::vector<std::string>{"none"});
  CHECK_FALSE(defaults.data_seed.has_value());
  defaults.validate();
}

TEST_CASE("the samples cover every field, in order") {
  const Json all = TrainingArguments().to_json();
  REQUIRE(all.members().size() == kArgumentSamples.size());
  for (size_t i = 0; i < kArgumentSamples.size(); ++i) {
    CHECK(all.members()[i].first == kArgumentSamples[i].name);
    CHECK(all.members()[i].second.dump() != Json::parse(kArgumentSamples[i].json, "sample").dump());
  }
}

TEST_CASE("each field is read from JSON, and no other changes") {
  const Json defaults = TrainingArguments().to_json();
  for (const ArgumentSample& sample : kArgumentSamples) {
    CAPTURE(sample.name);
    const Json settings = settings_of(sample);
    const Json read = TrainingArguments::from_json(settings, "test").to_json();
    for (const auto& [name, value] : read.members()) {
      const Json* set = settings.find(name);
      CHECK(value.dump() == (set ? *set : defaults.at(name)).dump());
    }
  }
}

TEST_CASE("to_json reads back to the same arguments, from JSON and from YAML") {
  // As many fields away from their defaults as go together.
  Json settings = Json::object();
  const std::set<std::string> apart = {"fp16", "fp16_full_eval", "group_by_length", "deepspeed"};
  for (const ArgumentSample& sample : kArgumentSamples)
    if (!apart.contains(sample.name)) settings.set(sample.name, Json::parse(sample.json, "sample"));
  const TrainingArguments args = TrainingArguments::from_json(settings, "test");
  for (const auto& [name, value] : settings.members())
    CHECK(args.to_json().at(name).dump() == value.dump());

  const std::string text = args.to_json_string();
  CHECK(text.starts_with("{\n  \"output_dir\": \"out/run 1\",\n"));
  CHECK(from_file_with("a.json", text).to_json_string() == text);
  if (has_yaml()) CHECK(from_file_with("a.yaml", text).to_json_string() == text);  // JSON is YAML
  const std::string defaults = TrainingArguments().to_json_string();
  CHECK(from(defaults).to_json_string() == defaults);
}

TEST_CASE("JSON texts and lists have the forms that Hugging Face users write") {
  CHECK(from(R"({"lr_scheduler_kwargs": "{\"num_cycles\": 2}"})").lr_scheduler_kwargs.dump() ==
        "{\"num_cycles\":2}");
  CHECK(from(R"({"report_to": "csv"})").report_to == std::vector<std::string>{"csv"});
  CHECK(from(R"({"optim_target_modules": ".*\\.(q|v)_proj{1,2}"})").optim_target_modules ==
        std::vector<std::string>{".*\\.(q|v)_proj{1,2}"});
  CHECK(from(R"({"optim_target_modules": null})").optim_target_modules.empty());
  CHECK(from(R"({"num_train_epochs": 2})").num_train_epochs == 2.0);
  CHECK_FALSE(from(R"({"eval_steps": null})").eval_steps.has_value());
  CHECK(from(R"({"lr_scheduler_kwargs": null})").lr_scheduler_kwargs.is_null());
}

TEST_CASE("wrong types say what is wanted, what came and where it came from") {
  CHECK(from_error(R"({"learning_rate": "fast"})") ==
        "[arguments] config.json: learning_rate must be a finite number; got \"fast\"");
  const std::pair<const char*, const char*> mistakes[] = {
      {R"({"learning_rate": 1e999})", "learning_rate must be a finite number; got 1e999"},
      {R"({"learning_rate": null})", "learning_rate must be a finite number; got null"},
      {R"({"max_steps": 10.0})", "max_steps must be an integer; got 10.0"},
      {R"({"max_steps": 9223372036854775808})", "max_steps must be an integer; got 92233"},
      {R"({"max_steps": true})", "max_steps must be an integer; got true"},
      {R"({"bf16": 1})", "bf16 must be true or false; got 1"},
      {R"({"bf16": "true"})", "bf16 must be true or false; got \"true\""},
      {R"({"output_dir": 5})", "output_dir must be text; got 5"},
      {R"({"run_name": ["a"]})", "run_name must be text; got [\"a\"]"},
      {R"({"report_to": [1]})", "report_to must be a list of texts; got [1]"},
      {R"({"lr_scheduler_kwargs": 3})", "lr_scheduler_kwargs must be an object"},
      {R"({"lr_scheduler_kwargs": "{3}"})", "lr_scheduler_kwargs: expected a key"},
      {R"({"eval_strategy": "step"})",
       "eval_strategy must be one of no, steps, epoch; got \"step\""},
      {R"({"eval_strategy": false})", "eval_strategy must be one of no, steps, epoch; got false"},
      {R"({"nonfinite_policy": "continue_"})", "must be one of stop, skip, continue"},
      {R"([1])", "config.json: the arguments must be one object"},
  };
  for (const auto& [json, message] : mistakes) {
    CAPTURE(json);
    const std::string error = from_error(json);
    CHECK(contains_text(error, "config.json"));
    CHECK_MESSAGE(contains_text(error, message), error);
  }
}

TEST_CASE("values out of range in a file are errors that name the file") {
  CHECK(from_error(R"({"learning_rate": -1})") ==
        "[training_arguments] config.json: learning_rate must be finite and at least 0; got -1");
}

TEST_CASE("unknown names suggest the nearest, inapplicable ones say why") {
  CHECK(from_error(R"({"learning_rte": 1})") ==
        "[arguments] config.json: there is no argument named learning_rte; did you mean "
        "learning_rate?");
  CHECK(contains_text(from_error(R"({"wramup_steps": 1})"), "did you mean warmup_steps?"));
  CHECK(contains_text(from_error(R"({"fb16": true})"), "did you mean bf16?"));
  CHECK(contains_text(from_error(R"({"banana": 1})"), "named banana; --help lists them all"));
  CHECK(contains_text(from_error("{\"" + std::string(100'000, 'x') + "\": 1}"), "no argument"));
  CHECK(from_error(R"({"push_to_hub": false})") ==
        "[arguments] config.json: push_to_hub does not apply: this library does not upload; copy "
        "output_dir where it should go");
  CHECK(contains_text(from_error(R"({"evaluation_strategy": "no"})"), "use eval_strategy"));
  for (const char* name : {"torch_compile", "use_liger_kernel", "past_index", "adafactor",
                           "overwrite_output_dir", "no_cuda", "project"}) {
    CAPTURE(name);
    CHECK(contains_text(from_error(std::string("{\"") + name + "\": 1}"), "does not apply: "));
  }
}

TEST_CASE("files: kinds, absence and size") {
  CHECK(from_file_with("a.json", R"({"max_steps": 7})").max_steps == 7);
  CHECK(contains_text(file_error("a.toml", "max_steps = 7"), "must end in .json, .yaml or .yml"));
  CHECK(contains_text(error_of([] { TrainingArguments::from_file("/no/such/file.json"); }),
                      "cannot read /no/such/file.json"));
  CHECK(contains_text(file_error("a.json", std::string((1 << 20) + 1, ' ')), "1048577 bytes"));
  CHECK(contains_text(file_error("a.json", "{\"max_steps\": 7,}"), "at line 1, column 17"));
  CHECK(contains_text(file_error("a.json", ""), "a.json"));
}

TEST_CASE("warm-up steps: a count, a fraction, or the deprecated ratio") {
  const auto steps = [](double warmup_steps, std::optional<double> ratio, int64_t total) {
    return TrainingArguments{.warmup_steps = warmup_steps, .warmup_ratio = ratio}.get_warmup_steps(
        total);
  };
  CHECK(steps(0.0, std::nullopt, 1000) == 0);
  CHECK(steps(100.0, std::nullopt, 50) == 100);
  CHECK(steps(1.0, std::nullopt, 1000) == 1);    // one step, not all of them
  CHECK(steps(0.1, std::nullopt, 1001) == 101);  // rounded up
  CHECK(steps(0.0, 0.5, 7) == 4);
  CHECK(steps(0.0, 1.0, 10) == 10);  // a ratio stays a ratio
  CHECK(steps(3.0, 0.5, 10) == 3);   // the count wins
}

TEST_CASE("derived values") {
  CHECK_FALSE(TrainingArguments{}.effective_do_eval());
  CHECK(TrainingArguments{.do_eval = true}.effective_do_eval());
  CHECK(TrainingArguments{.eval_strategy = IntervalStrategy::epoch}.effective_do_eval());

  CHECK_FALSE(TrainingArguments{}.effective_eval_steps().has_value());
  const IntervalStrategy every = IntervalStrategy::steps;
  CHECK(TrainingArguments{.eval_strategy = every}.effective_eval_steps() == 500.0);
  CHECK(TrainingArguments{.eval_strategy = every, .eval_steps = 20.0}.effective_eval_steps() ==
        20.0);
  CHECK(TrainingArguments{.eval_strategy = every, .eval_steps = 0.0, .logging_steps = 9}
            .effective_eval_steps() == 9.0);

  const auto metric = [](const TrainingArguments& a) {
    return a.effective_metric_for_best_model().value_or("-") +
           (a.effective_greater_is_better() ? " up" : " down");
  };
  CHECK(metric({}) == "- down");
  CHECK(metric({.load_best_model_at_end = true}) == "loss down");
  CHECK(metric({.lr_scheduler_type = SchedulerType::reduce_lr_on_plateau}) == "loss down");
  CHECK(metric({.metric_for_best_model = "accuracy"}) == "accuracy up");
  CHECK(metric({.metric_for_best_model = "eval_code_loss"}) == "eval_code_loss down");
  CHECK(metric({.metric_for_best_model = "accuracy", .greater_is_better = false}) ==
        "accuracy down");
}

TEST_CASE("the progress bar is off above the level warning") {
  CHECK_FALSE(TrainingArguments{.log_level = "warning"}.effective_disable_tqdm());
  CHECK(TrainingArguments{.log_level = "error"}.effective_disable_tqdm());
  CHECK_FALSE(
      TrainingArguments{.log_level = "error", .disable_tqdm = false}.effective_disable_tqdm());
  const LogLevel before = log_level();
  set_log_level(LogLevel::critical);
  CHECK(TrainingArguments{}.effective_disable_tqdm());  // passive: as the program has set it
  set_log_level(LogLevel::debug);
  CHECK_FALSE(TrainingArguments{}.effective_disable_tqdm());
  set_log_level(before);
}

TEST_CASE("output_dir expands the home folder") {
  const std::string home = std::getenv("HOME") ? std::getenv("HOME") : "";
  ::setenv("HOME", "/home/someone", 1);
  CHECK(TrainingArguments{.output_dir = "~/runs"}.expanded_output_dir() == "/home/someone/runs");
  CHECK(TrainingArguments{.output_dir = "~"}.expanded_output_dir() == "/home/someone");
  CHECK(TrainingArguments{.output_dir = "a~/b"}.expanded_output_dir() == "a~/b");
  CHECK(TrainingArguments{.output_dir = "~other/b"}.expanded_output_dir() == "~other/b");
  ::setenv("HOME", home.c_str(), 1);
}

TEST_CASE("optim_args are pairs") {
  const auto pairs = [](const char* text) {
    std::string out;
    for (const auto& [name, value] : TrainingArguments{.optim_args = text}.parsed_optim_args())
      out += "<" + name + "|" + value + ">";
    return out;
  };
  CHECK(TrainingArguments{}.parsed_optim_args().empty());
  CHECK(pairs("") == "");
  CHECK(pairs("rank=128, scale = 0.25,proj_type=std") == "<rank|128><scale|0.25><proj_type|std>");
  for (const char* bad : {"rank", "rank=", "=1", "rank=1,", ",rank=1", "a=1,,b=2", "a=1=2"}) {
    CAPTURE(bad);
    CHECK(
        contains_text(error_of([&] { pairs(bad); }), "must read \"name=value, name=value\"; got"));
  }
  CHECK(contains_text(error_of([&] { pairs("a=1,a=2"); }), "sets a twice"));
}

TEST_SUITE_END();
