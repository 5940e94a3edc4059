// Schedules by name against transformers' and PyTorch's own (tests/golden/schedules.py).
#include <doctest/doctest.h>
#include <tendril/core/error.h>
#include <tendril/optim/lr_scheduler.h>

#include <cmath>
#include <set>
#include <string>

#include "file_tools.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using optim::make_lr_scheduler;

namespace {

Json golden() {
  const std::string path = std::string(TENDRIL_SOURCE_DIR) + "/tests/golden/schedules.json";
  return Json::parse(read_bytes(path), path);
}

int64_t integer_or_zero(const Json& object, const char* key) {
  const Json* value = object.find(key);
  return value ? value->as_int() : 0;
}

std::unique_ptr<optim::LrScheduler> make(const Json& row) {
  return make_lr_scheduler(row.at("name").as_string(),
                           {.num_warmup_steps = integer_or_zero(row, "warmup"),
                            .num_training_steps = integer_or_zero(row, "total"),
                            .base_lr = row.at("base_lr").as_double(),
                            .kwargs = row.at("kwargs")});
}

Json object(const std::string& text) { return Json::parse(text, "the test"); }

std::string complaint(const std::string& name, const std::string& kwargs, double base_lr = 1e-3) {
  return message_of([&] {
    make_lr_scheduler(name, {.num_warmup_steps = 2,
                             .num_training_steps = 10,
                             .base_lr = base_lr,
                             .kwargs = object(kwargs)});
  });
}

}  // namespace

TEST_SUITE("lr_scheduler") {
  TEST_CASE("every schedule agrees with the original, and keeps its last value beyond the end") {
    std::set<std::string> seen;
    const Json rows = golden();
    for (const Json& row : rows.items()) {
      if (row.find("metrics")) continue;
      seen.insert(row.at("name").as_string());
      const auto scheduler = make(row);
      CHECK(!scheduler->needs_metric());
      const auto& factors = row.at("factors").items();
      REQUIRE(factors.size() > 30);
      for (size_t step = 0; step < factors.size(); ++step) {
        const double expected = factors[step].as_double();
        const double got = scheduler->factor(static_cast<int64_t>(step));
        CAPTURE(row.dump().substr(0, 150));
        CAPTURE(step);
        CHECK(std::abs(got - expected) <= 1e-12);
      }
    }
    CHECK(seen.size() == 10);
  }

  TEST_CASE("reduce_lr_on_plateau follows PyTorch, also when it is saved and loaded on the way") {
    int64_t cases = 0;
    const Json rows = golden();
    for (const Json& row : rows.items()) {
      if (!row.find("metrics")) continue;
      ++cases;
      auto scheduler = make(row);
      CHECK(scheduler->needs_metric());
      CHECK(scheduler->factor(0) == 1.0);
      const auto& metrics = row.at("metrics").items();
      for (size_t i = 0; i < metrics.size(); ++i) {
        scheduler->observe(metrics[i].is_null() ? NAN : metrics[i].as_double());
        CAPTURE(row.dump().substr(0, 150));
        CAPTURE(i);
        CHECK(std::abs(scheduler->factor(static_cast<int64_t>(i)) -
                       row.at("factors").items()[i].as_double()) <= 1e-12);
        auto resumed = make(row);
        resumed->load_state(Json::parse(scheduler->state().dump(), "a checkpoint"));
        CHECK(resumed->factor(3) == scheduler->factor(3));
        scheduler = std::move(resumed);
      }
    }
    CHECK(cases == 8);
  }

  TEST_CASE("before the first observation the state can be saved too") {
    const auto scheduler = make_lr_scheduler("reduce_lr_on_plateau", {.base_lr = 1.0});
    const auto resumed = make_lr_scheduler("reduce_lr_on_plateau", {.base_lr = 1.0});
    resumed->load_state(Json::parse(scheduler->state().dump(), "a checkpoint"));
    for (int i = 0; i < 12; ++i) resumed->observe(1e300);  // better than nothing, then 11 times not
    CHECK(resumed->factor(0) == doctest::Approx(0.1));
    CHECK_THROWS_AS(resumed->load_state(object("{}")), Error);
    CHECK_THROWS_AS(resumed->load_state(object(R"({"lr": -1, "best": null, "num_bad_epochs": 0,
                                                   "cooldown_counter": 0})")),
                    Error);
    CHECK(resumed->factor(0) == doctest::Approx(0.1));
  }

  TEST_CASE("schedules without state say so") {
    const auto scheduler = make_lr_scheduler("cosine", {.num_training_steps = 10});
    CHECK(scheduler->state().dump() == "{}");
    scheduler->load_state(Json::object());
    scheduler->observe(3.0);
    CHECK(scheduler->factor(0) == 1.0);
    CHECK(contains(message_of([&] { scheduler->load_state(object(R"({"lr": 1})")); }), "no state"));
    CHECK_THROWS_AS(scheduler->factor(-1), Error);
  }

  TEST_CASE("no division by zero at the corners") {
    for (const char* name : {"linear", "cosine", "cosine_with_restarts", "polynomial", "constant",
                             "constant_with_warmup", "inverse_sqrt"})
      for (const int64_t warmup : {0, 1, 5, 9})
        for (const int64_t total : {0, 1, 5}) {
          const auto scheduler = make_lr_scheduler(
              name, {.num_warmup_steps = warmup, .num_training_steps = total, .base_lr = 1e-3});
          for (int64_t step = 0; step < 12; ++step) {
            CHECK(scheduler->factor(step) >= 0.0);
            CHECK(scheduler->factor(step) <= 1.0);
          }
        }
    for (const char* kwargs :
         {R"({"min_lr_rate": 0.5})", R"({"min_lr_rate": 0.5, "warmup_lr_rate": 0.5})"})
      for (const int64_t total : {0, 1, 5}) {
        const auto scheduler = make_lr_scheduler(
            "cosine_warmup_with_min_lr",
            {.num_warmup_steps = 1, .num_training_steps = total, .kwargs = object(kwargs)});
        for (int64_t step = 0; step < 9; ++step) CHECK(scheduler->factor(step) >= 0.5);
        CHECK(scheduler->factor(9) == 0.5);
      }
  }

  TEST_CASE("mistakes name what would be right") {
    const std::string names = complaint("sinus", "{}");
    CHECK(contains(names, "\"sinus\""));
    CHECK(contains(names, "linear, cosine, cosine_with_restarts, polynomial, constant, "));
    CHECK(contains(names, "warmup_stable_decay"));
    const std::string takes = complaint("polynomial", R"({"num_cycles": 2})");
    CHECK(contains(takes, "\"num_cycles\""));
    CHECK(contains(takes, "lr_end, power"));
    CHECK(contains(complaint("linear", R"({"power": 2})"), "takes none"));
    CHECK(contains(complaint("linear", "[1]"), "JSON object"));
    CHECK(contains(complaint("warmup_stable_decay", "{}"), "num_decay_steps"));
    CHECK(contains(
        complaint("warmup_stable_decay", R"({"num_decay_steps": 3, "decay_type": "steep"})"),
        "one of linear, cosine, 1-sqrt; got \"steep\""));
    CHECK(contains(complaint("warmup_stable_decay", R"({"num_decay_steps": 2.5})"), "an integer"));
    CHECK(contains(complaint("cosine_with_min_lr", "{}"), "neither"));
    CHECK(contains(complaint("cosine_with_min_lr", R"({"min_lr": 0, "min_lr_rate": 0})"), "both"));
    CHECK(
        contains(complaint("cosine_with_min_lr", R"({"min_lr": 0.1})"), "below the learning rate"));
    CHECK(contains(complaint("cosine_with_min_lr", R"({"min_lr_rate": 2})"), "[0, 1]"));
    CHECK(contains(complaint("polynomial", "{}", 1e-8), "below the learning rate"));
    CHECK(contains(complaint("polynomial", "{}", 0.0), "base_lr"));
    CHECK(contains(complaint("cosine", R"({"num_cycles": "2"})"), "a number"));
    CHECK(contains(complaint("cosine", R"({"num_cycles": 0})"), "positive"));
    CHECK(contains(complaint("cosine_with_restarts", R"({"num_cycles": 0.5})"), "an integer"));
    CHECK(contains(complaint("reduce_lr_on_plateau", R"({"factor": 1})"), "factor"));
    CHECK(contains(complaint("reduce_lr_on_plateau", R"({"mode": "best"})"), "one of min, max"));
    CHECK(contains(complaint("reduce_lr_on_plateau", "{}", 0.0), "base_lr"));
    CHECK_THROWS_AS(make_lr_scheduler("linear", {.num_warmup_steps = -1}), Error);
    CHECK(complaint("inverse_sqrt", R"({"timescale": null})") == "");
  }
}
