#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <tendril/core/error.h>
#include <tendril/trainer/trainer_state.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

Json parse(const std::string& text) { return Json::parse(text, "test"); }

TrainerState some_state() {
  TrainerState state;
  state.epoch = 1.0;
  state.global_step = 20;
  state.max_steps = 60;
  state.num_train_epochs = 3;
  state.logging_steps = 10;
  state.eval_steps = 20;
  state.save_steps = 20;
  state.train_batch_size = 8;
  state.num_input_tokens_seen = 40960;
  state.total_flos = 5774647296000.0;
  state.log_history.push_back(Json::object()
                                  .set("loss", json_number(2.5))
                                  .set("grad_norm", json_number(1.0))
                                  .set("learning_rate", json_number(5e-5))
                                  .set("epoch", json_number(0.5))
                                  .set("step", 10));
  state.log_history.push_back(
      Json::object().set("eval_loss", json_number(std::nan(""))).set("step", 20));
  state.best_metric = 1.25;
  state.best_global_step = 20;
  state.best_model_checkpoint = "out/checkpoint-20";
  state.stateful_callbacks =
      parse(R"({"TrainerControl": {"attributes": {}, "args": {"should_save": true}}})");
  return state;
}

// As Python's json.dumps(..., indent=2, sort_keys=True) + "\n" writes the same values.
constexpr const char* kText = R"({
  "best_global_step": 20,
  "best_metric": 1.25,
  "best_model_checkpoint": "out/checkpoint-20",
  "epoch": 1.0,
  "eval_steps": 20,
  "global_step": 20,
  "is_hyper_param_search": false,
  "is_local_process_zero": true,
  "is_world_process_zero": true,
  "log_history": [
    {
      "epoch": 0.5,
      "grad_norm": 1.0,
      "learning_rate": 5e-05,
      "loss": 2.5,
      "step": 10
    },
    {
      "eval_loss": null,
      "step": 20
    }
  ],
  "logging_steps": 10,
  "max_steps": 60,
  "num_input_tokens_seen": 40960,
  "num_train_epochs": 3,
  "save_steps": 20,
  "stateful_callbacks": {
    "TrainerControl": {
      "args": {
        "should_save": true
      },
      "attributes": {}
    }
  },
  "total_flos": 5774647296000.0,
  "train_batch_size": 8,
  "trial_name": null,
  "trial_params": null
}
)";

// The text with one member changed, read.
TrainerState read_with(const std::string& member, const Json& value) {
  return TrainerState::from_json(parse(kText).set(member, value), "state.json");
}

Json without(const std::string& member) {
  const Json all = parse(kText);
  Json result = Json::object();
  for (const auto& [name, value] : all.members())
    if (name != member) result.set(name, value);
  return result;
}

}  // namespace

TEST_SUITE_BEGIN("trainer_state");

TEST_CASE("numbers for JSON files: floats stay floats, what is not finite is null") {
  CHECK(json_number(1.0).dump() == "1.0");
  CHECK(json_number(-0.0).dump() == "-0.0");
  CHECK(json_number(0.1).dump() == "0.1");
  CHECK(json_number(1e-5).dump() == "1e-05");
  CHECK(json_number(1e22).dump() == "1e+22");
  CHECK(json_number(1.0 / 3).as_double() == 1.0 / 3);
  CHECK(json_number(std::numeric_limits<double>::infinity()).is_null());
  CHECK(json_number(std::numeric_limits<double>::quiet_NaN()).is_null());
}

TEST_CASE("the state file has the layout of the Hugging Face Trainer") {
  CHECK(some_state().to_json_string() == kText);
}

TEST_CASE("a fresh state has nulls where nothing is known and whole steps as integers") {
  const Json fresh = parse(TrainerState().to_json_string());
  for (const char* name : {"best_global_step", "best_metric", "best_model_checkpoint", "epoch",
                           "train_batch_size", "trial_name", "trial_params"}) {
    CAPTURE(name);
    CHECK(fresh.at(name).is_null());
  }
  CHECK(fresh.at("logging_steps").dump() == "500");
  CHECK(fresh.at("total_flos").dump() == "0.0");
  CHECK(fresh.at("log_history").dump() == "[]");
  CHECK(fresh.at("stateful_callbacks").dump() == "{}");
  TrainerState fraction;
  fraction.eval_steps = 0.5;
  CHECK(parse(fraction.to_json_string()).at("eval_steps").dump() == "0.5");
}

TEST_CASE("reading gives back what was written") {
  const TrainerState state = TrainerState::from_json(parse(kText), "state.json");
  CHECK(state.to_json_string() == kText);
  CHECK(state.epoch == 1.0);
  CHECK(state.global_step == 20);
  CHECK(state.train_batch_size == 8);
  CHECK(state.best_metric == 1.25);
  CHECK(state.best_model_checkpoint == "out/checkpoint-20");
  CHECK(state.total_flos == 5774647296000.0);
  REQUIRE(state.log_history.size() == 2);
  CHECK(state.log_history[0].at("loss").as_double() == 2.5);
  CHECK_FALSE(state.trial_name);
}

TEST_CASE("files of older Hugging Face Trainers lack some members") {
  for (const char* name : {"best_global_step", "train_batch_size", "num_input_tokens_seen",
                           "stateful_callbacks", "trial_name", "trial_params"}) {
    CAPTURE(std::string(name));
    CHECK(TrainerState::from_json(without(name), "old.json").global_step == 20);
  }
  CHECK_FALSE(TrainerState::from_json(without("train_batch_size"), "old.json").train_batch_size);
}

TEST_CASE("a bad state file is an error that names the member") {
  for (const char* name : {"global_step", "epoch", "max_steps", "log_history", "best_metric",
                           "save_steps", "total_flos"}) {
    const std::string message =
        message_of([&] { TrainerState::from_json(without(name), "bad/trainer_state.json"); });
    CAPTURE(message);
    CHECK(contains(message, "bad/trainer_state.json"));
    CHECK(contains(message, "\"" + std::string(name) + "\" is missing"));
  }
  const auto complaint = [](const char* name, const Json& value) {
    return message_of([&] { read_with(name, value); });
  };
  CHECK(contains(complaint("global_step", parse("20.0")),
                 "\"global_step\" must be an integer; got 20.0"));
  CHECK(contains(complaint("epoch", "one"), "\"epoch\" must be a number; got \"one\""));
  CHECK(
      contains(complaint("log_history", parse("[1]")), "\"log_history\" must be an array of obj"));
  CHECK(contains(complaint("best_model_checkpoint", 3), "must be a string or null; got 3"));
  CHECK(contains(complaint("is_world_process_zero", 1), "must be true or false; got 1"));
  CHECK(contains(complaint("stateful_callbacks", Json::array()), "must be an object; got []"));
  CHECK(contains(message_of([] { TrainerState::from_json(parse("[]"), "x"); }), "an object"));
  CHECK_FALSE(read_with("epoch", nullptr).epoch);
}

TEST_CASE("control is saved as flags under args") {
  TrainerControl control;
  control.should_save = control.should_training_stop = true;
  CHECK(control.state().dump() ==
        R"({"args":{"should_epoch_stop":false,"should_evaluate":false,"should_log":false,)"
        R"("should_save":true,"should_training_stop":true},"attributes":{}})");
  TrainerControl loaded;
  loaded.should_log = true;
  loaded.load_state(control.state());
  CHECK(loaded.should_save);
  CHECK(loaded.should_training_stop);
  CHECK_FALSE(loaded.should_log);
  CHECK(contains(message_of([&] { loaded.load_state(parse(R"({"args": {}})")); }),
                 "\"should_epoch_stop\" is missing"));
}

TEST_SUITE_END();
