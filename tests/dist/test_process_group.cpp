// Collectives between threads: numbers and bits. Also: test_group_calls, test_group_faults.
#include <doctest/doctest.h>

#include <cmath>
#include <mutex>
#include <numeric>

#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/dist/in_process.h>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace tendril::testing;

namespace {

using Group = std::shared_ptr<ProcessGroup>;

// Numbers of one rank: not symmetric, and of sizes whose sums round.
double number(int rank, int64_t i) {
  return std::sin(static_cast<double>(7 * i + 3 * rank)) * std::pow(2.0, (i + rank) % 9);
}

Tensor numbers_of(int rank, int64_t count, DType dtype = f32) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) {
    const double value = number(rank, i);
    values.push_back(is_floating(dtype) ? value
                                        : std::floor(std::abs(value)) / (dtype == u8 ? 16 : 1));
  }
  return ops::cast(Tensor::from<double>(values, {count}), dtype);
}

std::vector<uint8_t> bits(const Tensor& x) {
  const auto* bytes = static_cast<const uint8_t*>(x.raw_data());
  return {bytes, bytes + x.nbytes()};
}

// The sum in the order of the ranks, in f32 for 16-bit dtypes, through the library's casts.
Tensor expected_sum(int ranks, int64_t count, DType dtype, bool average = false) {
  if (!is_floating(dtype)) {
    std::vector<int64_t> sum(static_cast<size_t>(count));
    for (int rank = 0; rank < ranks; ++rank) {
      const auto values = numbers_of(rank, count, dtype).to_vector<int64_t>();
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
    return ops::cast(Tensor::from<int64_t>(sum, {count}), dtype);
  }
  const auto add_up = [&]<class T>(T) {
    std::vector<T> sum(static_cast<size_t>(count));
    for (int rank = 0; rank < ranks; ++rank) {
      const auto values = numbers_of(rank, count, dtype).to_vector<T>();
      for (size_t i = 0; i < sum.size(); ++i) sum[i] = rank == 0 ? values[i] : sum[i] + values[i];
    }
    if (average)
      for (T& value : sum) value /= static_cast<T>(ranks);
    return ops::cast(Tensor::from<T>(sum, {count}), dtype);
  };
  return dtype == f64 ? add_up(double{}) : add_up(float{});
}

// Uneven counts, some of them zero.
std::vector<int64_t> uneven_counts(int ranks) {
  std::vector<int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back(rank % 3 == 1 ? 0 : 3 * rank + 2);
  return counts;
}

int64_t total(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

int64_t begin_of(const std::vector<int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, int64_t{0});
}

Tensor stretch(const Tensor& x, int64_t begin, int64_t count) {
  return Tensor::view(x.storage(), x.offset() + begin, {count}, {1}, x.dtype());
}

}  // namespace

TEST_SUITE_BEGIN("process_group");

TEST_CASE("all_reduce adds in the order of the ranks and rounds once, in every dtype") {
  for (int ranks = 1; ranks <= 5; ++ranks)
    for (const DType dtype : {f64, f32, bf16, f16, i64, i32, u8})
      for (const int64_t count : {0, 1, 3, 257, 5001}) {  // small and large ones differ in method
        CAPTURE(ranks);
        CAPTURE(name(dtype));
        CAPTURE(count);
        const auto expected = bits(expected_sum(ranks, count, dtype));
        int right = 0;
        std::mutex mutex;
        run_ranks(ranks, [&](const Group& group) {
          const Tensor x = numbers_of(group->rank(), count, dtype);
          group->all_reduce(x).wait();
          const std::lock_guard lock(mutex);
          right += bits(x) == expected;
        });
        CHECK(right == ranks);
      }
}

TEST_CASE("avg, max and min") {
  run_ranks(3, [](const Group& group) {
    for (const DType dtype : {f64, f32, bf16, f16}) {
      const Tensor x = numbers_of(group->rank(), 3000, dtype);
      group->all_reduce(x, ReduceOp::avg).wait();
      CHECK(bits(x) == bits(expected_sum(3, 3000, dtype, true)));
    }
    const float nan = std::nanf("");
    const std::vector<std::vector<float>> given = {
        {1.0f, -2.0f, nan, 0.5f}, {-1.0f, 5.0f, 1.0f, nan}, {0.0f, -7.0f, 2.0f, 3.0f}};
    const auto& own = given[static_cast<size_t>(group->rank())];
    const Tensor high = Tensor::from<float>(own, {4}), low = Tensor::from<float>(own, {4});
    group->all_reduce(high, ReduceOp::max).wait();
    group->all_reduce(low, ReduceOp::min).wait();
    CHECK(high.to_vector<float>()[0] == 1.0f);
    CHECK(high.to_vector<float>()[1] == 5.0f);
    CHECK(low.to_vector<float>()[0] == -1.0f);
    CHECK(low.to_vector<float>()[1] == -7.0f);
    for (const size_t i : {2, 3}) {
      CHECK(std::isnan(high.to_vector<float>()[i]));
      CHECK(std::isnan(low.to_vector<float>()[i]));
    }
    const Tensor integer = Tensor::from<int64_t>({-4 - group->rank()}, {1});
    group->all_reduce(integer, ReduceOp::max).wait();
    CHECK(integer.item<int64_t>() == -4);
    group->all_reduce(integer, ReduceOp::min).wait();
    CHECK(integer.item<int64_t>() == -4);
  });
}

TEST_CASE("several tensors of different dtypes travel together") {
  for (const int64_t count : {5, 4000}) {
    run_ranks(4, [&](const Group& group) {
      const std::vector<Tensor> tensors = {numbers_of(group->rank(), count, bf16),
                                           numbers_of(group->rank(), 1, f64), zeros({0}),
                                           numbers_of(group->rank(), 2 * count + 1, f32)};
      group->all_reduce(tensors).wait();
      CHECK(bits(tensors[0]) == bits(expected_sum(4, count, bf16)));
      CHECK(bits(tensors[1]) == bits(expected_sum(4, 1, f64)));
      CHECK(bits(tensors[3]) == bits(expected_sum(4, 2 * count + 1, f32)));
    });
  }
  run_ranks(2, [](const Group& group) { group->all_reduce(std::vector<Tensor>{}).wait(); });
}

TEST_CASE("what is too large for one round of adding up") {
  const int64_t count = 1'500'000;  // five parts of more than 1 MiB
  run_ranks(5, [&](const Group& group) {
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(static_cast<int>(i % 1001) * (group->rank() + 1));
    const Tensor x = Tensor::from<float>(values, {count}), half = full({1003}, 2.0, bf16);
    const std::vector<int64_t> counts = {count - 7, 0, 3, 0, 4};
    const Tensor part = Tensor::empty({counts[static_cast<size_t>(group->rank())]}, f32);
    group->reduce_scatter({{ops::clone(x), part, counts}}).wait();
    group->all_reduce({half, x}).wait();
    CHECK(half.to_vector<float>() == std::vector<float>(1003, 10.0f));
    bool is_right = true;  // 1 + 2 + 3 + 4 + 5 times the numbers of rank 0
    const auto sums = x.span<float>();
    for (size_t i = 0; i < values.size(); ++i)
      is_right = is_right && sums[i] == static_cast<float>(15 * static_cast<int>(i % 1001));
    CHECK(is_right);
    CHECK(bits(part) == bits(stretch(x, begin_of(counts, group->rank()), part.numel())));
  });
}

TEST_CASE("reduce_scatter gives the bits of all_reduce, to parts of any size") {
  for (int ranks = 1; ranks <= 5; ++ranks)
    for (const DType dtype : {f64, f32, bf16, f16, i32}) {
      const auto counts = uneven_counts(ranks);
      run_ranks(ranks, [&](const Group& group) {
        const auto own = static_cast<size_t>(group->rank());
        const Tensor whole = numbers_of(group->rank(), total(counts), dtype);
        const Tensor reduced = ops::clone(whole), part = Tensor::empty({counts[own]}, dtype);
        group->reduce_scatter({{whole, part, counts}}).wait();
        CHECK(bits(whole) == bits(reduced));  // unchanged
        group->all_reduce(reduced).wait();
        CHECK(bits(part) == bits(stretch(reduced, begin_of(counts, group->rank()), counts[own])));
      });
    }
}

TEST_CASE("reduce_scatter into a wider part, and into the whole") {
  const std::vector<int64_t> counts = {700, 0, 1500};
  run_ranks(3, [&](const Group& group) {
    const int64_t count = counts[static_cast<size_t>(group->rank())];
    const int64_t begin = begin_of(counts, group->rank());
    // f32 sums of bf16 numbers, which all_reduce would round once more.
    const Tensor half = numbers_of(group->rank(), 2200, bf16), wide = Tensor::empty({count}, f32);
    group->reduce_scatter({{half, wide, counts}}).wait();
    std::vector<float> sum(2200);
    for (int rank = 0; rank < 3; ++rank) {
      const auto values = numbers_of(rank, 2200, bf16).to_vector<float>();
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
    CHECK(bits(wide) == bits(stretch(Tensor::from<float>(sum, {2200}), begin, count)));

    const Tensor whole = numbers_of(group->rank(), 2200);
    const Tensor before = ops::clone(whole), part = stretch(whole, begin, count);
    group->reduce_scatter({{whole, part, counts}}, ReduceOp::avg).wait();
    CHECK(bits(part) == bits(stretch(expected_sum(3, 2200, f32, true), begin, count)));
    for (int rank = 0; rank < 3; ++rank) {  // the other ranks' parts stay
      if (rank == group->rank()) continue;
      const int64_t start = begin_of(counts, rank), size = counts[static_cast<size_t>(rank)];
      CHECK(bits(stretch(whole, start, size)) == bits(stretch(before, start, size)));
    }
  });
}

TEST_CASE("all_gather and gather put wholes together, in place or not") {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    const auto counts = uneven_counts(ranks);
    run_ranks(ranks, [&](const Group& group) {
      const int64_t count = counts[static_cast<size_t>(group->rank())];
      const int64_t begin = begin_of(counts, group->rank());
      const Tensor all = numbers_of(9, total(counts)), flags = ops::cast(all, bool_);
      const Tensor part = ops::clone(stretch(all, begin, count));
      const Tensor flag_part = ops::clone(stretch(flags, begin, count));
      const Tensor whole = zeros(all.shape()), flag_whole = zeros(all.shape(), bool_);
      group->all_gather({{whole, part, counts}, {flag_whole, flag_part, counts}}).wait();
      CHECK(bits(whole) == bits(all));
      CHECK(bits(flag_whole) == bits(flags));

      const Tensor place = zeros(all.shape());
      ops::copy(stretch(place, begin, count), part);
      group->all_gather({{place, stretch(place, begin, count), counts}}).wait();
      CHECK(bits(place) == bits(all));

      const int root = ranks - 1;
      const Tensor gathered = group->rank() == root ? zeros(all.shape()) : Tensor();
      group->gather({{gathered, part, counts}}, root).wait();
      if (group->rank() == root) CHECK(bits(gathered) == bits(all));
    });
  }
}

TEST_CASE("broadcast, all_to_all, send and recv") {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    run_ranks(ranks, [&](const Group& group) {
      for (int root = 0; root < ranks; ++root) {
        const std::vector<Tensor> tensors = {numbers_of(group->rank(), 1000, f16),
                                             numbers_of(group->rank(), 3, i64)};
        group->broadcast(tensors, root).wait();
        CHECK(bits(tensors[0]) == bits(numbers_of(root, 1000, f16)));
        CHECK(bits(tensors[1]) == bits(numbers_of(root, 3, i64)));
      }
      // Rank r sends s + 2 r numbers 100 r + s to rank s.
      std::vector<int64_t> input, input_counts, expected, output_counts;
      for (int other = 0; other < ranks; ++other) {
        input_counts.push_back(other + 2 * group->rank());
        input.insert(input.end(), static_cast<size_t>(input_counts.back()),
                     100 * group->rank() + other);
        output_counts.push_back(group->rank() + 2 * other);
        expected.insert(expected.end(), static_cast<size_t>(output_counts.back()),
                        100 * other + group->rank());
      }
      const Tensor output = Tensor::empty({total(output_counts)}, i64);
      group
          ->all_to_all(output, output_counts, Tensor::from<int64_t>(input, {total(input_counts)}),
                       input_counts)
          .wait();
      CHECK(output.to_vector<int64_t>() == expected);
    });
  }
  run_ranks(3, [](const Group& group) {  // around the ring, the first rank starts
    const Tensor token = numbers_of(5, 300, bf16), received = zeros({300}, bf16);
    if (group->rank() > 0) group->recv(received, group->rank() - 1).wait();
    group->send(group->rank() == 0 ? token : received, (group->rank() + 1) % 3).wait();
    if (group->rank() == 0) group->recv(received, 2).wait();
    if (group->rank() == 1) group->send(token, 2).wait();  // not all ranks make as many calls
    if (group->rank() == 2) group->recv(received, 1).wait();
    group->barrier().wait();
    CHECK(bits(received) == bits(token));
  });
}

TEST_CASE("operations run in the order of their calls, while the caller goes on") {
  run_ranks(3, [](const Group& group) {
    const Tensor x = full({2000}, group->rank() + 1);
    std::vector<Work> works;
    for (int i = 0; i < 10; ++i)
      works.push_back(group->all_reduce(x));  // 6, then each 3 times that
    for (const Work& work : works) work.wait();
    works.front().wait();  // may be waited for again
    CHECK(works.back().is_done());
    CHECK(x.to_vector<float>() == std::vector<float>(2000, 6.0f * 19683.0f));
  });
  CHECK(Work().is_done());
  Work().wait();
}

TEST_CASE("texts") {
  for (int ranks = 1; ranks <= 3; ++ranks)
    run_ranks(ranks, [&](const Group& group) {
      const std::string own(static_cast<size_t>(3 * group->rank()),
                            static_cast<char>('a' + group->rank()));
      const std::vector<std::string> texts = group->all_gather_text(own);
      REQUIRE(texts.size() == static_cast<size_t>(ranks));
      for (int rank = 0; rank < ranks; ++rank)
        CHECK(texts[static_cast<size_t>(rank)] ==
              std::string(static_cast<size_t>(3 * rank), static_cast<char>('a' + rank)));
      CHECK(group->broadcast_text(own + "!", ranks - 1) ==
            std::string(static_cast<size_t>(3 * (ranks - 1)), static_cast<char>('a' + ranks - 1)) +
                "!");
    });
}

TEST_CASE("split makes groups that work beside each other, and can be split again") {
  run_ranks(5, [](const Group& group) {
    const Group part = group->split(group->rank() % 2);  // 0 2 4 and 1 3
    CHECK(part->size() == (group->rank() % 2 == 0 ? 3 : 2));
    CHECK(part->rank() == group->rank() / 2);
    CHECK(std::string(part->backend()) == "in-process");
    const Tensor x = full({1500}, group->rank());
    part->all_reduce(x).wait();
    CHECK(x.to_vector<float>()[1499] == (group->rank() % 2 == 0 ? 6.0f : 4.0f));
    const Group alone = part->split(part->rank());
    CHECK(alone->size() == 1);
    alone->all_reduce(x).wait();
    alone->barrier().wait();
    group->barrier().wait();
    const Group reversed = group->split(-7);  // all of them once more
    CHECK(reversed->size() == 5);
    CHECK(reversed->rank() == group->rank());
    const Tensor y = ones({1});
    reversed->all_reduce(y).wait();
    CHECK(y.item<float>() == 5.0f);
  });
}

TEST_CASE("a group of one needs no engine") {
  const Group group = single_process_group();
  CHECK(group->rank() == 0);
  CHECK(group->size() == 1);
  const Tensor x = numbers_of(1, 5), before = ops::clone(x), wide = zeros({5}, f64);
  group->all_reduce(x, ReduceOp::avg).wait();
  CHECK(bits(x) == bits(before));
  group->reduce_scatter({{x, wide, {5}}}).wait();
  CHECK(numbers(wide) == numbers(x));
  const Tensor whole = zeros({5});
  group->all_gather({{whole, x, {5}}}).wait();
  CHECK(bits(whole) == bits(x));
  CHECK(group->all_gather_text("one") == std::vector<std::string>{"one"});
  CHECK(group->split(3)->size() == 1);
  group->barrier().wait();
  group->abort("enough");
  CHECK(contains(message_of([&] { group->barrier().wait(); }), "enough"));
}

TEST_SUITE_END();
