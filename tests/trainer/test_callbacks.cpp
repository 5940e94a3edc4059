#include <doctest/doctest.h>

#include <functional>
#include <utility>

#include <tendril/core/error.h>
#include <tendril/trainer/callbacks/default_flow.h>

#include "test_tools.h"
#include "trainer/callback_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Events = std::vector<std::pair<std::string, CallbackHandler::Event>>;

const Events kEvents = {
    {"init_end", &TrainerCallback::on_init_end},
    {"train_begin", &TrainerCallback::on_train_begin},
    {"train_end", &TrainerCallback::on_train_end},
    {"epoch_begin", &TrainerCallback::on_epoch_begin},
    {"epoch_end", &TrainerCallback::on_epoch_end},
    {"step_begin", &TrainerCallback::on_step_begin},
    {"substep_end", &TrainerCallback::on_substep_end},
    {"pre_optimizer_step", &TrainerCallback::on_pre_optimizer_step},
    {"optimizer_step", &TrainerCallback::on_optimizer_step},
    {"step_end", &TrainerCallback::on_step_end},
    {"evaluate", &TrainerCallback::on_evaluate},
    {"predict", &TrainerCallback::on_predict},
    {"prediction_step", &TrainerCallback::on_prediction_step},
    {"save", &TrainerCallback::on_save},
    {"log", &TrainerCallback::on_log},
};

// Writes "<name>:<event>" and which flags are up when it is called.
struct Recorder : TrainerCallback {
  std::string label;
  std::vector<std::string>* calls;
  explicit Recorder(std::string label, std::vector<std::string>* calls)
      : label(std::move(label)), calls(calls) {}

  void record(const char* event, const CallbackContext& c) {
    std::string flags;
    if (c.control.should_training_stop) flags += " training_stop";
    if (c.control.should_epoch_stop) flags += " epoch_stop";
    if (c.control.should_log) flags += " log";
    if (c.control.should_evaluate) flags += " evaluate";
    if (c.control.should_save) flags += " save";
    calls->push_back(label + ":" + event + flags);
  }
  void on_init_end(CallbackContext& c) override { record("init_end", c); }
  void on_train_begin(CallbackContext& c) override { record("train_begin", c); }
  void on_train_end(CallbackContext& c) override { record("train_end", c); }
  void on_epoch_begin(CallbackContext& c) override { record("epoch_begin", c); }
  void on_epoch_end(CallbackContext& c) override { record("epoch_end", c); }
  void on_step_begin(CallbackContext& c) override { record("step_begin", c); }
  void on_substep_end(CallbackContext& c) override { record("substep_end", c); }
  void on_pre_optimizer_step(CallbackContext& c) override { record("pre_optimizer_step", c); }
  void on_optimizer_step(CallbackContext& c) override { record("optimizer_step", c); }
  void on_step_end(CallbackContext& c) override { record("step_end", c); }
  void on_evaluate(CallbackContext& c) override { record("evaluate", c); }
  void on_predict(CallbackContext& c) override { record("predict", c); }
  void on_prediction_step(CallbackContext& c) override { record("prediction_step", c); }
  void on_save(CallbackContext& c) override { record("save", c); }
  void on_log(CallbackContext& c) override { record("log", c); }
};

// A callback of state {"attributes": {"count": n}}.
struct Counter : TrainerCallback {
  int64_t count = 0;
  explicit Counter(int64_t count = 0) : count(count) {}
  Json state() const override {
    return Json::object()
        .set("args", Json::object())
        .set("attributes", Json::object().set("count", count));
  }
  void load_state(const Json& state) override {
    count = state.at("attributes").at("count").as_int();
  }
};

template <class T>
struct Templated : TrainerCallback {};

// The flags that DefaultFlow raises at one event.
std::string flow(const std::function<void(HandDriven&)>& set_up, CallbackHandler::Event event) {
  HandDriven run;
  run.state.max_steps = 1000;
  run.args.logging_strategy = IntervalStrategy::no;
  run.args.save_strategy = SaveStrategy::no;
  set_up(run);
  DefaultFlowCallback callback;
  CallbackContext c = run.context();
  (callback.*event)(c);
  std::string flags;
  if (run.control.should_training_stop) flags += "stop ";
  if (run.control.should_log) flags += "log ";
  if (run.control.should_evaluate) flags += "evaluate ";
  if (run.control.should_save) flags += "save ";
  return flags;
}
std::string at_step(int64_t step, const std::function<void(HandDriven&)>& set_up) {
  return flow(
      [&](HandDriven& run) {
        run.state.global_step = step;
        set_up(run);
      },
      &TrainerCallback::on_step_end);
}
std::string at_epoch(double epoch, const std::function<void(HandDriven&)>& set_up) {
  return flow(
      [&](HandDriven& run) {
        run.state.epoch = epoch;
        set_up(run);
      },
      &TrainerCallback::on_epoch_end);
}

}  // namespace

TEST_SUITE_BEGIN("callbacks");

TEST_CASE("every event reaches every callback, in their order") {
  std::vector<std::string> calls;
  HandDriven run;
  const LogCapture log;  // two of a class
  run.handler.add(std::make_shared<Recorder>("a", &calls));
  run.handler.add(std::make_shared<Recorder>("b", &calls));
  for (const auto& [name, event] : kEvents) {
    calls.clear();
    run.fire(event);
    CHECK(calls == std::vector<std::string>{"a:" + name, "b:" + name});
  }
}

TEST_CASE("flags are cleared before the callbacks of their event, and by no other event") {
  const std::map<std::string, std::string> left = {
      {"train_begin", " epoch_stop log evaluate save"},
      {"epoch_begin", " training_stop log evaluate save"},
      {"step_begin", " training_stop epoch_stop"},
      {"log", " training_stop epoch_stop evaluate save"},
      {"evaluate", " training_stop epoch_stop log save"},
      {"save", " training_stop epoch_stop log evaluate"},
  };
  const LogCapture log;  // there is no DefaultFlowCallback
  for (const auto& [name, event] : kEvents) {
    std::vector<std::string> calls;
    HandDriven run;
    run.handler.add(std::make_shared<Recorder>("a", &calls));
    run.control = {true, true, true, true, true};
    run.fire(event);
    const auto expected = left.find(name);
    CHECK(calls == std::vector<std::string>{"a:" + name +
                                            (expected == left.end()
                                                 ? " training_stop epoch_stop log evaluate save"
                                                 : expected->second)});
  }
}

TEST_CASE("what one callback asks for, the next one sees") {
  struct Stopper : TrainerCallback {
    void on_substep_end(CallbackContext& c) override { c.control.should_training_stop = true; }
  };
  std::vector<std::string> calls;
  HandDriven run;
  run.handler.add(std::make_shared<Stopper>());
  run.handler.add(std::make_shared<Recorder>("late", &calls));
  run.fire(&TrainerCallback::on_substep_end);
  CHECK(calls == std::vector<std::string>{"late:substep_end training_stop"});
  CHECK(run.control.should_training_stop);
}

TEST_CASE("a callback may take itself out while it runs") {
  struct Once : TrainerCallback {
    CallbackHandler* handler;
    int calls = 0;
    explicit Once(CallbackHandler* handler) : handler(handler) {}
    void on_step_end(CallbackContext&) override {
      ++calls;
      handler->pop(*this);
    }
  };
  HandDriven run;
  const auto once = std::make_shared<Once>(&run.handler);
  run.handler.add(once);
  run.fire(&TrainerCallback::on_step_end);
  run.fire(&TrainerCallback::on_step_end);
  CHECK(once->calls == 1);
  CHECK(run.handler.all().empty());
}

TEST_CASE("names are classes without namespaces") {
  CHECK(DefaultFlowCallback().name() == "DefaultFlowCallback");
  CHECK(Counter().name() == "Counter");
  CHECK(Templated<std::pair<int, std::pair<int, char>>>().name().starts_with("Templated<"));
  CHECK(Templated<int>().name() == "Templated<int>");
  struct Local : TrainerCallback {};
  CHECK(Local().name() == "Local");
}

TEST_CASE("callbacks are added, found and taken out by name or object") {
  LogCapture log;
  CallbackHandler handler;
  const auto first = std::make_shared<Counter>(1), second = std::make_shared<Counter>(2);
  handler.add(first);
  CHECK(log.messages.empty());
  handler.add(second);
  REQUIRE(log.messages.size() == 1);
  CHECK(contains(log.messages[0], "Counter"));
  CHECK(handler.all().size() == 2);
  CHECK(handler.find("Counter") == first);
  CHECK(handler.find("Missing") == nullptr);
  CHECK(handler.pop(*second) == second);
  CHECK(handler.pop(*second) == nullptr);
  CHECK(handler.pop("Counter") == first);
  CHECK(handler.pop("Counter") == nullptr);
  CHECK(contains(message_of([&] { handler.add(nullptr); }), "null"));
}

TEST_CASE("training without DefaultFlowCallback gives a warning, with a class made from it none") {
  struct OwnFlow : DefaultFlowCallback {};
  HandDriven run;
  LogCapture log;
  run.fire(&TrainerCallback::on_train_begin);
  REQUIRE(log.messages.size() == 1);
  CHECK(contains(log.messages[0], "DefaultFlowCallback"));
  run.fire(&TrainerCallback::on_step_end);
  run.handler.add(std::make_shared<OwnFlow>());
  run.fire(&TrainerCallback::on_train_begin);
  CHECK(log.messages.size() == 1);
}

TEST_CASE("states: one by name, several as an array that does not grow with each save") {
  const LogCapture log;
  HandDriven run;
  run.handler.add(std::make_shared<DefaultFlowCallback>());  // has no state
  run.handler.add(std::make_shared<Counter>(1));
  run.control.should_save = true;
  CHECK(run.handler.states(run.control).at("Counter").dump() ==
        R"({"args":{},"attributes":{"count":1}})");
  CHECK(run.handler.states(run.control).members().size() == 2);
  CHECK(
      run.handler.states(run.control).at("TrainerControl").at("args").at("should_save").as_bool());

  run.handler.add(std::make_shared<Counter>(2));
  run.handler.add(std::make_shared<Counter>(3));
  for (int save = 0; save < 3; ++save) {
    run.state.stateful_callbacks = run.handler.states(run.control);
    CHECK(run.state.stateful_callbacks.at("Counter").items().size() == 3);
  }
}

TEST_CASE(
    "saved states go to callbacks of the same name in their order; one warning names the rest") {
  LogCapture log;
  HandDriven run;
  const auto first = std::make_shared<Counter>(), second = std::make_shared<Counter>();
  run.handler.add(first);
  run.handler.add(second);
  log.messages.clear();
  const auto state = [](int count) { return Counter(count).state(); };
  const Json control = TrainerControl{.should_epoch_stop = true}.state();
  run.handler.load_states(
      Json::object().set("TrainerControl", control).set("Counter", Json::Array{state(7), state(8)}),
      run.control);
  CHECK(first->count == 7);
  CHECK(second->count == 8);
  CHECK(run.control.should_epoch_stop);
  CHECK(log.messages.empty());

  run.handler.load_states(Json::object().set("Counter", state(9)), run.control);
  CHECK(first->count == 9);
  CHECK(second->count == 8);

  run.handler.load_states(Json::object()
                              .set("Lost", state(1))
                              .set("Counter", Json::Array{state(1), state(2), state(3)}),
                          run.control);
  CHECK(first->count == 1);
  REQUIRE(log.messages.size() == 1);
  CHECK(contains(log.messages[0], "Lost, Counter"));
}

TEST_CASE("default flow: steps") {
  const auto logging = [](HandDriven& run) {
    run.args.logging_strategy = IntervalStrategy::steps;
    run.args.logging_steps = 7;  // the arguments' own steps are not read
    run.state.logging_steps = 10;
  };
  CHECK(at_step(10, logging) == "log ");
  CHECK(at_step(7, logging) == "");
  CHECK(at_step(1, logging) == "");
  CHECK(at_step(1, [](HandDriven& run) { run.args.logging_first_step = true; }) == "log ");
  CHECK(at_step(2, [](HandDriven& run) { run.args.logging_first_step = true; }) == "");

  const auto evaluating = [](HandDriven& run) {
    run.args.eval_strategy = IntervalStrategy::steps;
    run.args.eval_delay = 30;
    run.state.eval_steps = 20;
  };
  CHECK(at_step(20, evaluating) == "");
  CHECK(at_step(40, evaluating) == "evaluate ");
  CHECK(at_step(41, evaluating) == "");

  const auto saving = [](HandDriven& run) {
    run.args.save_strategy = SaveStrategy::steps;
    run.state.save_steps = 25;
  };
  CHECK(at_step(25, saving) == "save ");
  CHECK(at_step(26, saving) == "");
  CHECK(at_step(25, [&](HandDriven& run) {
          saving(run);
          run.state.save_steps = 0;
        }) == "");
}

TEST_CASE("default flow: the last step ends training, and saves where steps do") {
  const auto with = [](SaveStrategy strategy) {
    return [strategy](HandDriven& run) {
      run.state.max_steps = 33;
      run.state.save_steps = 500;
      run.args.save_strategy = strategy;
    };
  };
  CHECK(at_step(32, with(SaveStrategy::steps)) == "");
  CHECK(at_step(33, with(SaveStrategy::steps)) == "stop save ");
  CHECK(at_step(34, with(SaveStrategy::no)) == "stop ");
  CHECK(at_step(33, with(SaveStrategy::epoch)) == "stop ");
  CHECK(at_step(33, with(SaveStrategy::best)) == "stop ");
}

TEST_CASE("default flow: epochs") {
  CHECK(at_epoch(1.0, [](HandDriven& run) {
          run.args.logging_strategy = IntervalStrategy::epoch;
        }) == "log ");
  const auto evaluating = [](HandDriven& run) {
    run.args.eval_strategy = IntervalStrategy::epoch;
    run.args.eval_delay = 2;
  };
  CHECK(at_epoch(1.0, evaluating) == "");
  CHECK(at_epoch(2.0, evaluating) == "evaluate ");
  CHECK(at_epoch(1.0, [](HandDriven& run) { run.args.save_strategy = SaveStrategy::epoch; }) ==
        "save ");
  // Strategies of steps do nothing at an epoch's end.
  CHECK(at_epoch(1.0, [](HandDriven& run) {
          run.args.logging_strategy = run.args.eval_strategy = IntervalStrategy::steps;
          run.args.save_strategy = SaveStrategy::steps;
        }) == "");
}

TEST_SUITE_END();
