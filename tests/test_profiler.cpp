// The profiler: what is counted, by which name, by which thread, and the trace it writes.
#include <doctest/doctest.h>

#include <cstdlib>
#include <set>
#include <thread>

#include <tendril/core/file.h>
#include <tendril/core/json.h>
#include <tendril/core/ops/flops.h>
#include <tendril/tendril.h>

#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

constexpr ProfileKind kBackward = ProfileKind::backward, kRange = ProfileKind::range;

void wait_milliseconds(int count) { std::this_thread::sleep_for(std::chrono::milliseconds(count)); }

// Catches the profiler's texts while it lives.
struct Caught {
  std::vector<std::string> texts;
  Caught() {
    set_profile_sink([this](const std::string& text) { texts.push_back(text); });
  }
  ~Caught() { set_profile_sink({}); }
};

double sum_of_shares(const Profile& profile) {
  double sum = 0.0;
  for (const ProfileRow& row : profile.rows) sum += row.share;
  return sum;
}

}  // namespace

TEST_SUITE("profiler") {
  TEST_CASE("calls, floating-point operations and bytes of a linear layer, both ways") {
    const Tensor x = rand({6, 10}).requires_grad_(), weight = rand({4, 10}).requires_grad_();
    ProfilerScope profile;
    for (int i = 0; i < 3; ++i) sum(linear(x, weight)).backward();
    const Profile report = profile.report();

    const ProfileRow* forward = report.find("linear");
    REQUIRE(forward);
    CHECK(forward->calls == 3);
    CHECK(forward->flops == 3 * 2 * 6 * 10 * 4);
    CHECK(forward->bytes == 3 * 4 * (60 + 40 + 24));
    CHECK(forward->seconds > 0.0);
    CHECK(forward->self_seconds == forward->seconds);

    const ProfileRow* backward = report.find("linear", kBackward);
    REQUIRE(backward);
    CHECK(backward->calls == 3);
    CHECK(backward->flops == 2 * forward->flops);
    // The gradient of the sum has one number; x and weight are read, their gradients written.
    CHECK(backward->bytes == 3 * 4 * (1 + 60 + 40 + 60 + 40));

    REQUIRE(report.find("sum"));
    CHECK(report.find("sum")->flops == 0);
    REQUIRE(report.find("accumulate", kBackward));
    CHECK(report.find("accumulate", kBackward)->calls == 4);
    REQUIRE(report.find("backward", kRange));
    CHECK(report.find("backward", kRange)->seconds > backward->seconds);
    CHECK(report.threads == 1);
    CHECK(report.wall_seconds > forward->seconds + backward->seconds);
    CHECK(sum_of_shares(report) == doctest::Approx(1.0));
  }

  TEST_CASE("only the gradients that are wanted count") {
    const Tensor x = rand({6, 10}), weight = rand({4, 10}).requires_grad_();
    ProfilerScope profile;
    sum(linear(x, weight)).backward();
    CHECK(profile.report().find("linear", kBackward)->flops == 2 * 6 * 10 * 4);
  }

  TEST_CASE("floating-point operations of dense algebra") {
    const auto flops = [](const char* op, auto run) {
      ProfilerScope profile;
      run();
      return profile.report().find(op)->flops;
    };
    CHECK(flops("matmul", [] { matmul(ones({5, 2, 3}), ones({3, 7})); }) == 2 * 5 * 2 * 3 * 7);
    CHECK(flops("matmul", [] { matmul(ones({3}), ones({3})); }) == 2 * 3);
    CHECK(flops("einsum", [] {
            einsum("bthd,bshd->bhts", ones({2, 3, 4, 5}), ones({2, 6, 4, 5}));
          }) == 2 * 2 * 3 * 4 * 5 * 6);
    CHECK(flops("einsum", [] {
            einsum("ijx, jk -> ik", ones({2, 3, 9}), ones({3, 4}));
          }) == 2 * 2 * 3 * 4);

    const Tensor q = ones({2, 4, 3, 8}), k = ones({2, 2, 5, 8});
    const auto attend = [&](AttentionOptions options) {
      return flops("scaled_dot_product_attention",
                   [&] { scaled_dot_product_attention(q, k, k, options); });
    };
    const int64_t pair = 4 * 2 * 4 * 8;
    CHECK(attend({}) == pair * 15);
    CHECK(attend({.causal = true}) == pair * (3 + 4 + 5));
    CHECK(attend({.causal = true, .window = 2}) == pair * 6);
    ops::AttentionSettings causal;
    causal.causal = true;
    CHECK(ops::attention_flops(k, q, causal) == 4 * 2 * 2 * 8 * (0 + 0 + 1 + 2 + 3));
  }

  TEST_CASE(
      "bytes: views move nothing, broadcast numbers are read once, an embedding reads its rows") {
    const Tensor x = ones({4, 6}), table = ones({1000, 6});
    ProfilerScope profile;
    transpose(x, 0, 1);
    add(x, expand(ones({6}), {4, 6}));
    embedding(Tensor::from<int64_t>({1, 2}, {2}), table);
    {
      Tensor y = clone(x);
      add_(y, x);
    }
    const Profile report = profile.report();
    CHECK(report.find("permute")->bytes == 0);
    CHECK(report.find("expand")->bytes == 0);
    CHECK(report.find("add")->bytes == 4 * (24 + 6 + 24));
    CHECK(report.find("embedding")->bytes == 4 * 2 * 12);
    CHECK(report.find("add_")->bytes == 4 * 3 * 24);
  }

  TEST_CASE("ranges nest: total with what is inside, self without") {
    ProfilerScope profile;
    {
      const ProfileRange outer("outer");
      {
        const ProfileRange inner(std::string("in") + "ner");
        wait_milliseconds(4);
        ones({3}) + ones({3});
      }
      wait_milliseconds(2);
    }
    const Profile report = profile.report();
    const ProfileRow *outer = report.find("outer", kRange), *inner = report.find("inner", kRange);
    REQUIRE(outer);
    REQUIRE(inner);
    REQUIRE(report.find("add"));
    CHECK(inner->seconds >= 0.004);
    CHECK(outer->seconds >= inner->seconds + 0.002);
    CHECK(outer->self_seconds == doctest::Approx(outer->seconds - inner->seconds));
    CHECK(inner->self_seconds == doctest::Approx(inner->seconds - report.find("add")->seconds));
    CHECK(sum_of_shares(report) == doctest::Approx(1.0));
  }

  TEST_CASE("a range inside one of the same name counts its time once") {
    ProfilerScope profile;
    {
      const ProfileRange outer("same");
      const ProfileRange inner("same");
      wait_milliseconds(2);
    }
    const Profile report = profile.report();
    CHECK(report.find("same", kRange)->calls == 2);
    CHECK(report.find("same", kRange)->seconds <= report.wall_seconds);
    CHECK(report.find("same", kRange)->seconds ==
          doctest::Approx(report.find("same", kRange)->self_seconds));
  }

  TEST_CASE("what checkpoint recomputes counts as itself") {
    const Tensor x = rand({8, 8}).requires_grad_();
    ProfilerScope profile;
    const Tensor y =
        checkpoint([](const std::vector<Tensor>& in) { return matmul(in[0], in[0]); }, {x});
    sum(y).backward();
    const Profile report = profile.report();
    CHECK(report.find("matmul")->calls == 2);
    CHECK(report.find("matmul")->flops == 2 * 2 * 8 * 8 * 8);
    CHECK(report.find("matmul", kBackward)->flops == 2 * 2 * 8 * 8 * 8);
    REQUIRE(report.find("checkpoint", kBackward));
    CHECK(report.find("checkpoint", kBackward)->self_seconds <
          report.find("checkpoint", kBackward)->seconds);
    CHECK(report.find("backward", kRange)->seconds <= report.wall_seconds);
  }

  TEST_CASE("an operation that fails leaves no row and no open frame") {
    ProfilerScope profile;
    CHECK(error_of([] { matmul(ones({2, 3}), ones({2, 3})); }) != "");
    ones({2}) * ones({2});
    const Profile report = profile.report();
    CHECK(report.find("matmul") == nullptr);
    CHECK(report.find("mul")->self_seconds == report.find("mul")->seconds);
    REQUIRE(report.rows.size() == 1);
  }

  TEST_CASE("rows by shape") {
    ProfilerScope by_shape({.shapes = true}), by_name;
    for (int64_t rows : {2, 2, 3}) ones({rows, 4}, f64) + ones({4}, f64);
    const Profile report = by_shape.report();
    REQUIRE(report.rows.size() == 2);
    std::set<std::string> shapes;
    for (const ProfileRow& row : report.rows)
      shapes.insert(row.shapes + " x" + std::to_string(row.calls));
    CHECK(shapes == std::set<std::string>{"f64 (2, 4), f64 (4,) x2", "f64 (3, 4), f64 (4,) x1"});
    REQUIRE(by_name.report().rows.size() == 1);
    CHECK(by_name.report().rows[0].calls == 3);
    CHECK(by_name.report().rows[0].shapes == "");
  }

  TEST_CASE("overlapping scopes each report their own time; without one nothing is kept") {
    ones({2}) + ones({2});
    ProfilerScope outer;
    ones({2}) + ones({2});
    {
      ProfilerScope inner;
      ones({2}) + ones({2});
      ones({2}) * ones({2});
      CHECK(inner.report().find("add")->calls == 1);
      CHECK(inner.report().find("mul")->calls == 1);
    }
    ones({2}) + ones({2});
    CHECK(outer.report().find("add")->calls == 3);
    CHECK(outer.report().find("mul")->calls == 1);
  }

  TEST_CASE("several application threads") {
    constexpr int kThreads = 4, kCalls = 200;
    ProfilerScope profile;
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([i] {
        const ProfileRange range("thread " + std::to_string(i));
        const Tensor x = ones({4, 4}).requires_grad_();
        for (int call = 0; call < kCalls; ++call) sum(matmul(x, x)).backward();
      });
    for (int i = 0; i < 50; ++i) profile.report();  // while they run
    for (std::thread& thread : threads) thread.join();
    const Profile report = profile.report();
    CHECK(report.threads == kThreads);
    CHECK(report.find("matmul")->calls == kThreads * kCalls);
    CHECK(report.find("matmul", kBackward)->flops == int64_t{kThreads} * kCalls * 2 * 128);
    for (int i = 0; i < kThreads; ++i)
      CHECK(report.find("thread " + std::to_string(i), kRange)->calls == 1);
  }

  TEST_CASE("the table goes to the sink when the scope ends, unless the report was taken") {
    Caught caught;
    {
      ProfilerScope profile;
      const ProfileRange range("my range");
      matmul(ones({64, 64}), ones({64, 64}));
    }
    REQUIRE(caught.texts.size() == 1);
    for (const char* part :
         {"operation", "calls", "total ms", "self ms", "share", "GFLOP/s", "GB/s", "bytes",
          "\nmatmul ", "49.2 kB", "wall time", "in 1 thread:", "\nranges\nmy range "})
      CHECK_MESSAGE(contains_text(caught.texts[0], part), part, " in\n", caught.texts[0]);
    {
      ProfilerScope profile;
      profile.report();
    }
    CHECK(caught.texts.size() == 1);
  }

  TEST_CASE("a trace of complete events, nested in time") {
    const TemporaryFolder folder;
    const std::string path = folder.file("trace.json");
    {
      ProfilerScope profile({.shapes = true, .trace_file = path});
      const ProfileRange range("step \"1\"\n\xff");
      const Tensor x = ones({3, 3}).requires_grad_();
      sum(matmul(x, x)).backward();
      std::thread([] { ones({2}) + ones({2}); }).join();
      profile.report();
    }
    const Json trace = Json::parse(read_text_file(path), path);
    std::set<int64_t> named_threads;
    std::set<std::string> names;
    double backward_start = 0.0, backward_end = 0.0, matmul_start = -1.0, matmul_end = -1.0;
    for (const Json& event : trace.at("traceEvents").items()) {
      const std::string phase = event.at("ph").as_string();
      CHECK(event.at("pid").as_int() == 1);
      if (phase == "M") {
        if (event.at("name").as_string() == "thread_name")
          named_threads.insert(event.at("tid").as_int());
        CHECK(event.at("args").at("name").is_string());
        continue;
      }
      REQUIRE(phase == "X");
      CHECK(named_threads.contains(event.at("tid").as_int()));
      CHECK(event.at("ts").as_double() >= 0.0);
      CHECK(event.at("dur").as_double() >= 0.0);
      const std::string name = event.at("name").as_string(), category = event.at("cat").as_string();
      names.insert(category + ": " + name);
      const double start = event.at("ts").as_double(), end = start + event.at("dur").as_double();
      if (category == "range" && name == "backward") backward_start = start, backward_end = end;
      if (name == "matmul backward") matmul_start = start, matmul_end = end;
      if (name == "matmul") {
        CHECK(event.at("args").at("flops").as_int() == 2 * 27);
        CHECK(event.at("args").at("shapes").as_string() == "f32 (3, 3), f32 (3, 3)");
      }
    }
    CHECK(names.contains("forward: matmul"));
    CHECK(names.contains("forward: add"));
    CHECK(names.contains("backward: matmul backward"));
    CHECK(names.contains("range: backward"));
    CHECK(names.contains("range: step \"1\"\n?"));
    CHECK(matmul_start >= backward_start);
    CHECK(matmul_end <= backward_end + 1e-3);
  }

  TEST_CASE("a trace that cannot be written is reported to the sink") {
    Caught caught;
    {
      ProfilerScope profile({.trace_file = "/nowhere/trace.json"});
      profile.report();
    }
    REQUIRE(caught.texts.size() == 1);
    CHECK(contains_text(caught.texts[0], "/nowhere/trace.json"));
  }

  TEST_CASE("a small program" * doctest::skip()) {  // run by the next test, in a process of its own
    const Tensor x = ones({4, 4}).requires_grad_();
    sum(matmul(x, x)).backward();
    CHECK(x.grad().defined());
  }

  TEST_CASE("TENDRIL_PROFILE profiles a whole program") {
    const TemporaryFolder folder;
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    const auto run = [&](const std::string& setting) {
      const std::string command = "TENDRIL_PROFILE=" + setting + " '" + self +
                                  "' --no-skip '--test-case=a small program' >/dev/null 2>'" +
                                  folder.file("errors") + "'";
      CHECK(std::system(command.c_str()) == 0);
      return read_bytes(folder.file("errors"));
    };
    CHECK(run("") == "");
    CHECK(run("0") == "");
    CHECK(contains_text(run("1"), "\nmatmul backward "));
    const std::string by_shape = run("shapes");
    CHECK(contains_text(by_shape, "\nmatmul f32 (4, 4), f32 (4, 4) "));
    CHECK(contains_text(by_shape, "\nmatmul backward f32 (4, 4) -> f32 (4, 4), f32 (4, 4) "));
    const std::string path = folder.file("trace.json");
    CHECK(contains_text(run(path), "\nmatmul "));
    CHECK(Json::parse(read_text_file(path), path).at("traceEvents").items().size() > 4);
  }
}
