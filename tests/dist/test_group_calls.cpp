// What a process group says of its calls: wrong arguments, traffic, changed tensors.
#include <doctest/doctest.h>

#include <tendril/core/creation.h>
#include <tendril/dist/in_process.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;

namespace {

using Group = std::shared_ptr<ProcessGroup>;

Tensor stretch(const Tensor& x, int64_t begin, int64_t count) {
  return Tensor::view(x.storage(), x.offset() + begin, {count}, {1}, x.dtype());
}

}  // namespace

TEST_SUITE_BEGIN("group_calls");

TEST_CASE("traffic is what theory says") {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    const int64_t n = 12 * 4 * 100;  // bytes, cut evenly by all these
    run_ranks(ranks, [&](const Group& group) {
      const auto expect = [&](Collective collective, int64_t sent, int64_t received) {
        CAPTURE(name(collective));
        CHECK(group->traffic(collective).calls == 1);
        CHECK(group->traffic(collective).sent_bytes == sent);
        CHECK(group->traffic(collective).received_bytes == received);
      };
      const int64_t numel = n / 4, share = n * (ranks - 1) / ranks;
      const std::vector<int64_t> even(static_cast<size_t>(ranks), numel / ranks);
      const Tensor whole = zeros({numel}), part = zeros({numel / ranks});
      const bool is_root = group->rank() == 0;
      group->all_reduce({zeros({numel / 2}), zeros({numel / 2})}).wait();
      group->reduce_scatter({{whole, part, even}}).wait();
      group->all_gather({{whole, part, even}}).wait();
      group->broadcast({whole}, 0).wait();
      group->gather({{is_root ? whole : Tensor(), part, even}}, 0).wait();
      group->all_to_all(zeros({numel}), even, whole, even).wait();
      group->barrier().wait();
      expect(Collective::all_reduce, 2 * share, 2 * share);
      expect(Collective::reduce_scatter, share, share);
      expect(Collective::all_gather, share, share);
      expect(Collective::broadcast, is_root ? n * (ranks - 1) : 0, is_root ? 0 : n);
      expect(Collective::gather, is_root ? 0 : n / ranks, is_root ? share : 0);
      expect(Collective::all_to_all, share, share);
      expect(Collective::barrier, 0, 0);
      CHECK(group->traffic().calls == 7);
      group->reset_traffic();
      CHECK(group->traffic().calls == 0);
      if (ranks == 1) return;
      if (is_root) group->send(whole, 1).wait();
      if (group->rank() == 1) group->recv(whole, 0).wait();
      if (is_root) expect(Collective::send, n, 0);
      if (group->rank() == 1) expect(Collective::recv, 0, n);
    });
  }
  run_ranks(3, [](const Group& group) {    // uneven: each sends what is not its own, twice
    group->all_reduce(zeros({7})).wait();  // parts of 3, 2, 2
    const int64_t own = group->rank() == 0 ? 3 : 2;
    CHECK(group->traffic().sent_bytes == 4 * (7 - own + 2 * own));
    group->reset_traffic();
    const std::vector<int64_t> counts = {5, 0, 2};
    const int64_t count = counts[static_cast<size_t>(group->rank())];
    group->reduce_scatter({{zeros({7}, bf16), zeros({count}), counts}}).wait();  // bf16 travels
    CHECK(group->traffic().sent_bytes == 2 * (7 - count));
    CHECK(group->traffic().received_bytes == 2 * 2 * count);
  });
}

TEST_CASE("wrong arguments are errors at once, on the rank that passes them") {
  run_ranks(2, [](const Group& group) {
    const auto says = [](const auto& call, const std::string& part) {
      const std::string message = message_of(call);
      CAPTURE(message);
      CHECK(contains(message, part));
    };
    const Tensor x = zeros({4});
    const Tensor strided = Tensor::view(x.storage(), 0, {2}, {2}, f32);
    says([&] { group->all_reduce(Tensor()); }, "[all_reduce] got an undefined tensor");
    says([&] { group->all_reduce(strided); }, "contiguous");
    says([&] { group->all_reduce(zeros({1}, bool_)); }, "cannot reduce bool");
    says([&] { group->all_reduce(zeros({1}, i64), ReduceOp::avg); }, "avg needs floating-point");
    says([&] { group->broadcast({x}, 2); }, "no rank 2 in a group of 2");
    says([&] { group->broadcast({x}, -1); }, "no rank -1");
    says([&] { group->send(x, group->rank()); }, "sends to itself");
    says([&] { group->recv(x, group->rank()); }, "receives from itself");
    const Tensor two = zeros({2});
    says([&] { group->all_gather({{x, two, {4}}}); }, "1 counts in a group of 2");
    says([&] { group->all_gather({{x, two, {5, -1}}}); }, "negative");
    says([&] { group->all_gather({{x, two, {3, 3}}}); }, "its count is 3");
    says([&] { group->all_gather({{zeros({5}), two, {2, 2}}}); }, "add up to 4");
    says([&] { group->all_gather({{x, zeros({2}, f64), {2, 2}}}); }, "same dtype");
    says([&] { group->all_gather({{Tensor(), two, {2, 2}}}); }, "undefined");
    says([&] { group->reduce_scatter({{x, zeros({2}, bf16), {2, 2}}}); }, "a wider one");
    says(
        [&] {
          group->reduce_scatter({{zeros({4}, i32), zeros({2}, i64), {2, 2}}});
        },
        "a wider one");
    says([&] { group->all_gather({{x, stretch(x, 1, 2), {2, 2}}}); }, "share memory");
    says([&] { group->all_to_all(x, {2, 2}, x, {2, 2}); }, "share memory");
    says([&] { group->all_to_all(zeros({4}), {2, 2}, x, {3, 2}); }, "the input has shape (4,)");
    says([&] { group->all_to_all(zeros({4}), {3, 1}, x, {1, 3}); }, "sends itself");
    Tensor weight = zeros({4});
    weight.requires_grad_();
    group->all_reduce(weight).wait();  // a leaf may
    CHECK(group->traffic().calls == 1);
  });
  CHECK(contains(message_of([] { run_ranks(0, [](const Group&) {}); }), "at least one rank"));
}

TEST_CASE("with set_debug() a difference between calls is an error that names both") {
  run_ranks(2, [](const Group& group) {
    group->set_debug(true);
    const bool first = group->rank() == 0;
    const Tensor x = zeros({4}), y = zeros({5});
    const std::string shapes = message_of([&] { group->all_reduce(first ? x : y); });
    CHECK(contains(shapes, "rank 0 all_reduce (4,) f32, rank 1 all_reduce (5,) f32"));
    const std::string calls =
        message_of([&] { first ? group->all_reduce(x) : group->broadcast({x}, 0); });
    CHECK(contains(calls, "rank 0 all_reduce (4,) f32, rank 1 broadcast from 0 (4,) f32"));
    group->all_reduce(x).wait();  // and the group still works
  });
}

TEST_CASE("the tape notices that numbers change") {
  run_ranks(2, [](const Group& group) {
    const Tensor x = zeros({4}), whole = zeros({8});
    const uint32_t version = x.storage()->version(), whole_version = whole.storage()->version();
    group->all_reduce(x).wait();
    CHECK(x.storage()->version() == version + 1);
    group->all_gather({{whole, x, {4, 4}}}).wait();
    CHECK(x.storage()->version() == version + 1);
    CHECK(whole.storage()->version() == whole_version + 1);
  });
}

TEST_SUITE_END();
