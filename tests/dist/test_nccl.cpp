// NCCL on one GPU: a group of one rank. ProcessGroup copies by itself then, so the engine's own
// functions are called here. With more GPUs, processes of this program form a group as well.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/dist/environment.h>
#include <tendril/dist/store/store_server.h>

#include "cuda_tools.h"
#include "dist/child_process.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using dist::Piece;
using dist::ProcessGroup;
using dist::ReduceOp;
using dist::Work;

namespace {

bool is_left_out() {
  if (skipped_without_gpu()) return true;
  if (dist::has_nccl()) return false;
  MESSAGE("skipped: built without NCCL");
  return true;
}

// What an engine implements, called through the base class as ProcessGroup itself does.
struct Engine : ProcessGroup {
  using ProcessGroup::run_all_gather;
  using ProcessGroup::run_all_reduce;
  using ProcessGroup::run_all_to_all;
  using ProcessGroup::run_barrier;
  using ProcessGroup::run_broadcast;
  using ProcessGroup::run_gather;
  using ProcessGroup::run_reduce_scatter;
};

std::shared_ptr<ProcessGroup> one_rank() {
  for (const char* variable : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
    ::unsetenv(variable);
  return dist::init_process_group({.backend = "nccl"});
}

template <class Run, class... Arguments>
void run(ProcessGroup& group, Run function, Arguments... arguments) {
  const Work work = (group.*function)(std::move(arguments)...);
  work.wait();
  work.wait();  // as often as one likes
  cuda::synchronize();  // the stream waits, not the host
  CHECK(work.is_done() == true);
}

Tensor on_gpu(const Tensor& x) { return to(x, Device::cuda()); }

Tensor counting(int64_t count, DType dtype) {
  return on_gpu(to(arange(0.0, static_cast<double>(count)), dtype));
}

std::vector<double> count_up(int64_t count) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<double>(i));
  return values;
}

}  // namespace

TEST_SUITE("nccl") {
  TEST_CASE("every collective, on one rank") {
    if (is_left_out()) return;
    const auto group = one_rank();
    CHECK(std::string(group->backend()) == "nccl");
    const std::vector<double> expected = count_up(100);
    for (const DType dtype : {f64, f32, bf16, f16, i64, i32, u8}) {
      CAPTURE(dtype);
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::avg, ReduceOp::max, ReduceOp::min}) {
        if (op == ReduceOp::avg && !is_floating(dtype)) continue;
        const Tensor a = counting(100, dtype), b = counting(7, dtype), none = counting(0, dtype);
        run(*group, &Engine::run_all_reduce, std::vector<Tensor>{a, none, b}, op);
        CHECK(numbers(a) == expected);
        CHECK(numbers(b) == count_up(7));
        const Tensor part = on_gpu(zeros({100}, dtype));
        run(*group, &Engine::run_reduce_scatter,
            std::vector<Piece>{{counting(100, dtype), part, {100}}}, op);
        CHECK(numbers(part) == expected);
      }
      const Tensor gathered = on_gpu(zeros({100}, dtype)), rooted = on_gpu(zeros({100}, dtype));
      run(*group, &Engine::run_all_gather,
          std::vector<Piece>{{gathered, counting(100, dtype), {100}}});
      CHECK(numbers(gathered) == expected);
      run(*group, &Engine::run_gather, std::vector<Piece>{{rooted, counting(100, dtype), {100}}},
          0);
      CHECK(numbers(rooted) == expected);
      const Tensor sent = counting(100, dtype);
      run(*group, &Engine::run_broadcast, std::vector<Tensor>{sent}, 0);
      CHECK(numbers(sent) == expected);
      const Tensor received = on_gpu(zeros({100}, dtype));
      run(*group, &Engine::run_all_to_all, received, std::vector<int64_t>{100}, sent,
          std::vector<int64_t>{100});
      CHECK(numbers(received) == expected);
    }
    run(*group, &Engine::run_barrier);
  }

  TEST_CASE("parts that lie in their wholes, and parts that are wider") {
    if (is_left_out()) return;
    const auto group = one_rank();
    const Tensor whole = counting(50, f32);
    run(*group, &Engine::run_all_gather, std::vector<Piece>{{whole, whole, {50}}});
    run(*group, &Engine::run_gather, std::vector<Piece>{{whole, whole, {50}}}, 0);
    run(*group, &Engine::run_reduce_scatter, std::vector<Piece>{{whole, whole, {50}}},
        ReduceOp::avg);
    CHECK(numbers(whole) == count_up(50));
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::avg, ReduceOp::max}) {
      const Tensor wide = on_gpu(zeros({5, 10}, f32)), equal = on_gpu(zeros({50}, bf16));
      run(*group, &Engine::run_reduce_scatter,
          std::vector<Piece>{{counting(50, bf16), wide, {50}}, {counting(50, bf16), equal, {50}}},
          op);
      CHECK(numbers(wide) == count_up(50));
      CHECK(numbers(equal) == count_up(50));
    }
  }

  TEST_CASE("operations wait for the work before them, and the work after for them") {
    if (is_left_out()) return;
    const auto group = one_rank();
    const Tensor x = on_gpu(full({1 << 20}, 1.0));
    std::vector<Work> works;
    Tensor sum = on_gpu(zeros({1 << 20}));
    for (int i = 0; i < 50; ++i) {
      const Tensor doubled = x * 2.0;  // on the current stream, and freed before it has run
      const Tensor out = on_gpu(zeros({1 << 20}));
      const Work work = ((*group).*&Engine::run_all_gather)(
          std::vector<Piece>{{out, doubled, {int64_t{1} << 20}}});
      work.wait();
      sum = sum + out;
    }
    CHECK(sum.to_vector<float>() == std::vector<float>(1 << 20, 100.0f));
    // One that nobody waits for keeps its memory until it is done.
    for (int i = 0; i < 20; ++i)
      ((*group).*&Engine::run_all_reduce)({on_gpu(full({1 << 20}, 3.0))}, ReduceOp::sum);
    CHECK(on_gpu(full({1 << 20}, 5.0)).to_vector<float>() == std::vector<float>(1 << 20, 5.0f));
  }

  TEST_CASE("host tensors pass through the GPU") {
    if (is_left_out()) return;
    const auto group = one_rank();
    const Tensor x = to(arange(0.0, 10.0), f32), out = zeros({10});
    run(*group, &Engine::run_all_reduce, std::vector<Tensor>{x}, ReduceOp::sum);
    run(*group, &Engine::run_all_gather, std::vector<Piece>{{out, x, {10}}});
    CHECK(numbers(out) == count_up(10));
    CHECK(group->all_gather_text("hello") == std::vector<std::string>{"hello"});
    CHECK(group->broadcast_text("world", 0) == "world");
  }

  TEST_CASE("split makes groups that work") {
    if (is_left_out()) return;
    const auto group = one_rank();
    const auto part = group->split(-7);
    CHECK(part->size() == 1);
    CHECK(part->rank() == 0);
    const Tensor x = counting(10, f32);
    run(*part, &Engine::run_all_reduce, std::vector<Tensor>{x}, ReduceOp::sum);
    CHECK(numbers(x) == count_up(10));
  }

  TEST_CASE("an aborted group says why, soon and for ever") {
    if (is_left_out()) return;
    const auto group = one_rank();
    group->set_step(12);
    run(*group, &Engine::run_barrier);
    group->abort("the loss is not finite");
    std::string message;
    for (int i = 0; i < 500 && message.empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      message = message_of([&] { ((*group).*&Engine::run_barrier)().wait(); });
    }
    CHECK(contains(message, "[barrier "));
    CHECK(contains(message, " in step 12] rank 0 (host "));
    CHECK(contains(message, "failed: the loss is not finite"));
    CHECK_FALSE(message_of([&] { ((*group).*&Engine::run_barrier)(); }).empty());
  }

  // One of the processes of the next test.
  TEST_CASE("a rank of the NCCL tests" * doctest::skip()) {
    const auto group = dist::init_process_group();
    const int rank = group->rank(), size = group->size();
    const Device device = Device::cuda(rank);
    const Tensor mine = to(full({5}, rank + 1.0), device);
    group->all_reduce(mine).wait();
    CHECK(numbers(mine) == std::vector<double>(5, size * (size + 1) / 2.0));

    // Rank r keeps r elements: uneven, and nothing on rank 0.
    std::vector<int64_t> counts;
    for (int r = 0; r < size; ++r) counts.push_back(r);
    const int64_t total = size * (size - 1) / 2;
    std::vector<double> whole_of_ranks;
    for (int r = 0; r < size; ++r) whole_of_ranks.insert(whole_of_ranks.end(), r, r);
    const Tensor whole = to(zeros({total}), device), part = to(full({rank}, double(rank)), device);
    group->all_gather({{whole, part, counts}}).wait();
    CHECK(numbers(whole) == whole_of_ranks);
    for (const DType dtype : {f32, bf16}) {  // into parts in f32
      const Tensor sum = to(zeros({rank}), device);
      group->reduce_scatter({{to(whole, dtype), sum, counts}}, ReduceOp::avg).wait();
      CHECK(numbers(sum) == std::vector<double>(static_cast<size_t>(rank), rank));
    }
    const Tensor at_root = rank == 1 ? to(zeros({total}), device) : Tensor();
    group->gather({{at_root, part, counts}}, 1).wait();
    if (rank == 1) CHECK(numbers(at_root) == whole_of_ranks);
    if (rank == 0) group->send(mine, 1).wait();
    if (rank == 1) group->recv(mine, 0).wait();
    CHECK(group->all_gather_text(std::to_string(rank)).back() == std::to_string(size - 1));
    const auto pair = group->split(rank / 2);
    const Tensor x = to(full({2}, rank), device);
    pair->all_reduce(x, ReduceOp::max).wait();
    CHECK(numbers(x) == std::vector<double>(2, std::min(rank / 2 * 2 + 1, size - 1)));
    group->barrier().wait();
    if (!std::getenv("TEST_LAST_RANK_DIES")) return;
    if (rank == size - 1) ::raise(SIGKILL);
    const std::string message = message_of([&] { group->barrier().wait(); });
    std::fprintf(stderr, "%s\n", message.c_str());
    CHECK(message.empty());  // so that the process does not end well
  }

  TEST_CASE("several GPUs, one process each") {
    if (is_left_out()) return;
    const int size = std::min(cuda::device_count(), 4);
    if (size < 2) {
      MESSAGE("left out: needs two GPUs");
      return;
    }
    for (const bool dies : {false, true}) {
      const int port = dist::StoreServer("127.0.0.1", 0).port();  // a free one
      std::vector<std::unique_ptr<ChildProcess>> ranks;
      for (int rank = 0; rank < size; ++rank) {
        std::map<std::string, std::string> variables{{"RANK", std::to_string(rank)},
                                                     {"WORLD_SIZE", std::to_string(size)},
                                                     {"MASTER_ADDR", "127.0.0.1"},
                                                     {"MASTER_PORT", std::to_string(port)}};
        if (dies) variables["TEST_LAST_RANK_DIES"] = "1";
        ranks.push_back(std::make_unique<ChildProcess>("a rank of the NCCL tests", variables));
      }
      const std::string last = "rank " + std::to_string(size - 1) + " (host ";
      for (int rank = 0; rank < size; ++rank) {
        CAPTURE(rank);
        ChildProcess& child = *ranks[static_cast<size_t>(rank)];
        const auto status = child.wait_for(std::chrono::seconds(60));
        REQUIRE(status);
        CHECK((*status == 0) == !dies);
        if (dies && rank < size - 1) CHECK(contains(child.errors(), last));
      }
    }
  }
}
