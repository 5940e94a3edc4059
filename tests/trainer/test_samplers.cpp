// In which order a pass visits the examples.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <thread>
#include <vector>

#include <tendril/core/random.h>
#include <tendril/core/threads.h>
#include <tendril/trainer/data/sampler.h>

#include "../test_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

using Order = std::vector<int64_t>;

Order counted(int64_t size) {
  Order order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

bool is_permutation_of(Order order, int64_t size) {
  std::sort(order.begin(), order.end());
  return order == counted(size);
}

// Lengths between 1 and 97 with many repetitions.
Order made_up_lengths(int64_t size) {
  Order lengths;
  for (int64_t i = 0; i < size; ++i)
    lengths.push_back(1 + static_cast<int64_t>(RandomKey{.seed = 5}.bits(i) % 97));
  return lengths;
}

// The procedure of the Hugging Face Trainer, piece by piece.
Order grouped(const Order& permutation, const Order& lengths, int64_t batch_size) {
  const auto size = static_cast<int64_t>(permutation.size());
  int64_t batches = std::min<int64_t>(size / (batch_size * 4), 50);
  if (batches == 0) batches = 1;
  std::vector<Order> pieces;
  for (int64_t i = 0; i < size; ++i) {
    if (i % (batches * batch_size) == 0) pieces.emplace_back();
    pieces.back().push_back(permutation[i]);
  }
  size_t longest = 0;
  for (size_t p = 0; p < pieces.size(); ++p) {
    std::stable_sort(pieces[p].begin(), pieces[p].end(),
                     [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
    if (lengths[pieces[p][0]] > lengths[pieces[longest][0]]) longest = p;
  }
  std::swap(pieces[0][0], pieces[longest][0]);
  Order order;
  for (const Order& piece : pieces) order.insert(order.end(), piece.begin(), piece.end());
  return order;
}

}  // namespace

TEST_SUITE("samplers") {
  TEST_CASE("a sequential pass goes in order") {
    CHECK(SequentialSampler(4).indices(0) == Order{0, 1, 2, 3});
    CHECK(SequentialSampler(4).indices(7) == Order{0, 1, 2, 3});
    CHECK(SequentialSampler(0).indices(0).empty());
    CHECK(SequentialSampler(4).size() == 4);
  }

  TEST_CASE("a random pass visits every example once") {
    for (const int64_t size : {0, 1, 2, 3, 63, 64, 65, 127, 128, 1000, 100'003}) {
      CAPTURE(size);
      const RandomSampler sampler(size, 42);
      CHECK(sampler.size() == size);
      CHECK(is_permutation_of(sampler.indices(0), size));
      CHECK(is_permutation_of(sampler.indices(1), size));
    }
  }

  TEST_CASE("the order follows from seed and pass, and from nothing else") {
    const Order order = RandomSampler(1000, 42).indices(3);
    CHECK(order != counted(1000));
    CHECK(order != RandomSampler(1000, 42).indices(2));
    CHECK(order != RandomSampler(1000, 43).indices(3));
    // A sampler has no memory, neither have the generators.
    const RandomSampler sampler(1000, 42);
    sampler.indices(0);
    manual_seed(99);
    CHECK(sampler.indices(3) == order);
    CHECK(default_generator().state() == Generator::State{99, 0});
    const int threads = num_threads();
    for (const int count : {1, 2, 5}) {
      set_num_threads(count);
      CHECK(sampler.indices(3) == order);
    }
    set_num_threads(threads);
    Order elsewhere;
    std::thread([&] { elsewhere = sampler.indices(3); }).join();
    CHECK(elsewhere == order);
  }

  // What a stored position means must not change with the version: Fisher-Yates over the key's
  // words, two for each draw, of which the upper half of the product with the bound is taken.
  TEST_CASE("the random order is the documented one") {
    const RandomKey key{.seed = 0x123456789abcdef0, .position = 6, .stream = Stream::data};
    const int64_t size = 200;
    Order expected = counted(size);
    for (int64_t i = 0; i < size; ++i) {
      const auto word = uint64_t{key.bits(2 * i)} << 32 | key.bits(2 * i + 1);
      const auto left = static_cast<unsigned __int128>(size - i);
      std::swap(expected[i], expected[i + static_cast<int64_t>(word * left >> 64)]);
    }
    CHECK(RandomSampler(size, key.seed).indices(6) == expected);
  }

  TEST_CASE("all orders are equally likely") {
    std::map<Order, int> seen;
    const RandomSampler sampler(4, 1);
    const int passes = 24'000;
    for (int pass = 0; pass < passes; ++pass) ++seen[sampler.indices(pass)];
    REQUIRE(seen.size() == 24);
    double chi_squared = 0;
    for (const auto& [order, count] : seen)
      chi_squared += (count - 1000.0) * (count - 1000.0) / 1000;
    CHECK(chi_squared < 49.7);  // 23 degrees of freedom: exceeded once in a thousand
  }

  TEST_CASE("grouping by length keeps every example and puts the longest first") {
    const Order lengths = made_up_lengths(1003);
    const LengthGroupedSampler sampler(lengths, 4, 9);
    CHECK(sampler.size() == 1003);
    const Order order = sampler.indices(2);
    CHECK(is_permutation_of(order, 1003));
    CHECK(lengths[order[0]] == *std::max_element(lengths.begin(), lengths.end()));
    CHECK(order == sampler.indices(2));
    CHECK(order != sampler.indices(3));
    CHECK(order != LengthGroupedSampler(lengths, 4, 10).indices(2));
  }

  TEST_CASE("grouping by length makes the pieces of the Trainer that it follows") {
    for (const int64_t size : {1, 2, 15, 16, 17, 100, 1003, 5000})
      for (const int64_t batch_size : {1, 3, 4, 64}) {
        CAPTURE(size);
        CAPTURE(batch_size);
        const Order lengths = made_up_lengths(size);
        CHECK(LengthGroupedSampler(lengths, batch_size, 9).indices(1) ==
              grouped(RandomSampler(size, 9).indices(1), lengths, batch_size));
      }
    CHECK(LengthGroupedSampler({}, 4, 9).indices(0).empty());
  }

  TEST_CASE("grouping by length saves most of the padding") {
    const Order lengths = made_up_lengths(4000);
    const auto padding = [&](const Order& order) {
      int64_t total = 0;
      for (size_t begin = 0; begin < order.size(); begin += 8) {
        int64_t most = 0, sum = 0;
        for (size_t i = begin; i < begin + 8; ++i) {
          most = std::max(most, lengths[order[i]]);
          sum += lengths[order[i]];
        }
        total += 8 * most - sum;
      }
      return total;
    };
    CHECK(20 * padding(LengthGroupedSampler(lengths, 8, 3).indices(0)) <
          padding(RandomSampler(4000, 3).indices(0)));
  }

  TEST_CASE("mistakes are named") {
    CHECK(contains(message_of([] { RandomSampler(-1, 0); }), "[RandomSampler]"));
    CHECK(contains(message_of([] { SequentialSampler(-2); }), "got -2"));
    CHECK(contains(message_of([] { RandomSampler(3, 0).indices(-1); }), "must not be negative"));
    CHECK(contains(message_of([] { LengthGroupedSampler({1}, 0, 0); }), "batch_size"));
    CHECK(contains(message_of([] {
                     LengthGroupedSampler({1, -5}, 1, 0);
                   }),
                   "example 1 has length -5"));
  }
}
