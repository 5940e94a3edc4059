// Batches of a dataset whose examples have numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>

#include <tendril/autograd/tape.h>
#include <tendril/core/creation.h>
#include <tendril/core/threads.h>

#include "../test_tools.h"
#include "loader_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

DataLoader loader_of(int64_t size, DataLoaderOptions options) {
  return DataLoader(std::make_shared<WatchedDataset>(size), std::move(options));
}

// Batches of all ranks.
std::vector<Batches> read_ranks(int64_t size, DataLoaderOptions options) {
  std::vector<Batches> ranks;
  for (options.rank = 0; options.rank < options.world_size; ++options.rank) {
    const DataLoader loader = loader_of(size, options);
    ranks.push_back(read_all(loader));
    CHECK(loader.size() == static_cast<int64_t>(ranks.back().size()));
  }
  return ranks;
}

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void nap(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

// Counts the threads that have used it and ended since.
struct ThreadLife {
  static inline std::atomic<int> ended{0};
  ~ThreadLife() { ++ended; }
};
void notice_thread() { [[maybe_unused]] thread_local const ThreadLife life; }

}  // namespace

TEST_SUITE("data_loader") {
  TEST_CASE("batches come in the sampler's order whatever the number of threads") {
    const auto sampler = std::make_shared<RandomSampler>(103, 5);
    const std::vector<int64_t> order = sampler->indices(2);
    for (const int64_t workers : {0, 1, 3, 16}) {
      CAPTURE(workers);
      const DataLoader loader =
          loader_of(103, {.batch_size = 10, .sampler = sampler, .num_workers = workers});
      CHECK(loader.size() == 11);
      const Batches batches = read_all(loader, 2);
      REQUIRE(batches.size() == 11);
      CHECK(batches.back().size() == 3);
      std::vector<int64_t> joined;
      for (const auto& batch : batches) joined.insert(joined.end(), batch.begin(), batch.end());
      CHECK(joined == order);
    }
  }

  TEST_CASE("examples of unequal cost do not change the order") {
    const auto dataset = std::make_shared<FunctionDataset>(24, [](int64_t i) {
      nap(i % 5 == 0 ? 3 : 0);
      return numbered(i);
    });
    const Batches expected = read_all(DataLoader(dataset, {.batch_size = 2}));
    const DataLoader threaded(dataset, {.batch_size = 2, .num_workers = 3, .prefetch_factor = 1});
    CHECK(read_all(threaded) == expected);
  }

  TEST_CASE("returning to any batch gives the rest of the pass and loads nothing before it") {
    const auto sampler = std::make_shared<RandomSampler>(23, 5);
    const std::vector<int64_t> order = sampler->indices(1);
    for (const int64_t workers : {0, 1, 3}) {
      const DataLoaderOptions options{.batch_size = 4, .sampler = sampler, .num_workers = workers};
      const Batches all = read_all(loader_of(23, options), 1);
      for (int64_t first = 0; first <= 8; ++first) {
        CAPTURE(workers);
        CAPTURE(first);
        const auto dataset = std::make_shared<WatchedDataset>(23);
        const Batches rest = read_all(DataLoader(dataset, options), 1, first);
        const auto skipped = std::min<int64_t>(first, 6);
        CHECK(rest == Batches(all.begin() + skipped, all.end()));
        auto asked = dataset->asked();
        std::vector<int64_t> expected(order.begin() + std::min<int64_t>(4 * first, 23),
                                      order.end());
        std::sort(asked.begin(), asked.end());
        std::sort(expected.begin(), expected.end());
        CHECK(asked == expected);
      }
    }
  }

  TEST_CASE("a batch that is not full is kept, or dropped on demand") {
    CHECK(read_all(loader_of(7, {.batch_size = 3})) == Batches{{0, 1, 2}, {3, 4, 5}, {6}});
    CHECK(read_all(loader_of(7, {.batch_size = 3, .drop_last = true})) ==
          Batches{{0, 1, 2}, {3, 4, 5}});
    CHECK(read_all(loader_of(6, {.batch_size = 3, .drop_last = true})) ==
          Batches{{0, 1, 2}, {3, 4, 5}});
    CHECK(read_all(loader_of(2, {.batch_size = 3, .drop_last = true})).empty());
    CHECK(read_all(loader_of(2, {.batch_size = 3})) == Batches{{0, 1}});
    CHECK(read_all(loader_of(0, {.num_workers = 2})).empty());
  }

  TEST_CASE("batch k goes to rank k mod W; the last round is completed from the beginning") {
    using Ranks = std::vector<Batches>;
    CHECK(read_ranks(7, {.batch_size = 2, .world_size = 2}) ==
          Ranks{{{0, 1}, {4, 5}}, {{2, 3}, {6, 0}}});
    CHECK(read_ranks(7, {.batch_size = 2, .world_size = 3}) ==
          Ranks{{{0, 1}, {6, 0}}, {{2, 3}, {1, 2}}, {{4, 5}, {3, 4}}});
    CHECK(read_ranks(3, {.batch_size = 2, .world_size = 4}) ==
          Ranks{{{0, 1}}, {{2, 0}}, {{1, 2}}, {{0, 1}}});
    CHECK(read_ranks(8, {.batch_size = 2, .world_size = 2}) ==
          Ranks{{{0, 1}, {4, 5}}, {{2, 3}, {6, 7}}});
    CHECK(read_ranks(7, {.batch_size = 2, .world_size = 3, .even_batches = false}) ==
          Ranks{{{0, 1}, {6}}, {{2, 3}}, {{4, 5}}});
    CHECK(read_ranks(7, {.batch_size = 2, .drop_last = true, .world_size = 2}) ==
          Ranks{{{0, 1}}, {{2, 3}}});
    // One process alone has nobody to keep pace with.
    CHECK(read_ranks(3, {.batch_size = 2, .world_size = 1}) == Ranks{{{0, 1}, {2}}});
  }

  TEST_CASE("the ranks together see every example, equally many batches each") {
    for (int64_t size = 0; size <= 30; ++size)
      for (int64_t batch_size = 1; batch_size <= 4; ++batch_size)
        for (int64_t world_size = 1; world_size <= 4; ++world_size) {
          CAPTURE(size);
          CAPTURE(batch_size);
          CAPTURE(world_size);
          DataLoaderOptions options{.batch_size = batch_size, .world_size = world_size};
          const auto even = read_ranks(size, options);
          std::set<int64_t> seen;
          for (const Batches& batches : even) {
            CHECK(batches.size() == even[0].size());
            for (const auto& batch : batches) {
              seen.insert(batch.begin(), batch.end());
              if (world_size > 1) CHECK(batch.size() == static_cast<size_t>(batch_size));
            }
          }
          CHECK(seen.size() == static_cast<size_t>(size));
          options.even_batches = false;
          size_t examples = 0;  // each exactly once
          for (const Batches& batches : read_ranks(size, options))
            for (const auto& batch : batches) examples += batch.size();
          CHECK(examples == static_cast<size_t>(size));
          options.drop_last = true;
          for (const Batches& batches : read_ranks(size, options))
            CHECK(batches.size() == static_cast<size_t>(size / (batch_size * world_size)));
        }
  }

  TEST_CASE("threads stay within their bound of batches ahead") {
    const auto dataset = std::make_shared<WatchedDataset>(1000);
    const DataLoader loader(dataset, {.batch_size = 2, .num_workers = 3, .prefetch_factor = 2});
    const auto stream = loader.iterate(0);
    // They come that far, however late, and then no further.
    const auto reaches = [&](size_t count) {
      for (int i = 0; i < 30'000 && dataset->asked().size() < count; ++i) nap(1);
      nap(20);
      return dataset->asked().size() == count;
    };
    CHECK(reaches(12));
    REQUIRE(stream->next());
    CHECK(reaches(14));
  }

  TEST_CASE("an error is thrown at its batch's turn, and again after it") {
    for (const int64_t workers : {0, 1, 3}) {
      CAPTURE(workers);
      const auto dataset = std::make_shared<FunctionDataset>(40, [](int64_t i) -> Example {
        if (i == 21) throw std::out_of_range("example 21 is rotten");
        return numbered(i);
      });
      const DataLoader loader(dataset, {.batch_size = 4, .num_workers = workers});
      const auto stream = loader.iterate(0);
      for (int64_t k = 0; k < 5; ++k) {
        const auto batch = stream->next();
        REQUIRE(batch);
        CHECK(batch->at("x").to_vector<int64_t>()[0] == 4 * k);
      }
      CHECK_THROWS_WITH_AS(stream->next(), "example 21 is rotten", std::out_of_range);
      CHECK_THROWS_AS(stream->next(), std::out_of_range);
      // The loader itself is fine.
      CHECK(read_all(loader, 0, 6).size() == 4);
    }
  }

  TEST_CASE("an error of the collator names what does not fit") {
    const auto dataset = std::make_shared<FunctionDataset>(4, [](int64_t i) -> Example {
      return {{"x", Tensor::empty({i})}};
    });
    for (const int64_t workers : {0, 2}) {
      const DataLoader loader(dataset, {.batch_size = 2, .num_workers = workers});
      CHECK(contains(message_of([&] { loader.iterate(0)->next(); }), "column \"x\": example 1"));
    }
  }

  TEST_CASE("a stream can be dropped while its threads wait or work") {
    for (int64_t taken = 0; taken < 4; ++taken) {  // they wait for room
      const DataLoader loader = loader_of(1000, {.batch_size = 1, .num_workers = 3});
      const auto stream = loader.iterate(0);
      for (int64_t i = 0; i < taken; ++i) CHECK(stream->next());
    }
    // They are in the middle of batches of a minute: only the example at hand is finished.
    const auto slow = std::make_shared<FunctionDataset>(6000, [](int64_t i) {
      nap(20);
      return numbered(i);
    });
    const DataLoader loader(slow, {.batch_size = 3000, .num_workers = 2});
    CHECK(seconds_of([&] { loader.iterate(0); }) < 20.0);
  }

  TEST_CASE("a stream outlives its loader") {
    std::unique_ptr<BatchStream> stream;
    {
      const DataLoader loader =
          loader_of(9, {.batch_size = 2, .num_workers = 2, .persistent_workers = true});
      stream = loader.iterate(0);
    }
    CHECK(read_all(*stream).size() == 5);
  }

  TEST_CASE("persistent threads live from pass to pass, others end with theirs") {
    const auto dataset = std::make_shared<FunctionDataset>(60, [](int64_t i) {
      notice_thread();
      nap(1);
      return numbered(i);
    });
    for (const bool persistent : {false, true}) {
      ThreadLife::ended = 0;
      {
        const DataLoader loader(
            dataset, {.batch_size = 2, .num_workers = 3, .persistent_workers = persistent});
        const Batches first = read_all(loader);
        CHECK((ThreadLife::ended > 0) == !persistent);
        CHECK(read_all(loader) == first);
        loader.iterate(0)->next();  // broken off
        CHECK(read_all(loader, 0, 3) == Batches(first.begin() + 3, first.end()));
        if (persistent) CHECK(ThreadLife::ended == 0);
      }
      CHECK(ThreadLife::ended > 0);
      if (persistent) CHECK(ThreadLife::ended <= 3);
    }
  }

  TEST_CASE("two streams of a loader with persistent threads run side by side") {
    const DataLoader loader = loader_of(
        64, {.batch_size = 1, .num_workers = 2, .prefetch_factor = 1, .persistent_workers = true});
    const auto one = loader.iterate(0), two = loader.iterate(0);
    for (int64_t i = 0; i < 64; ++i) {
      CHECK(two->next()->at("x").item<int64_t>() == i);
      CHECK(one->next()->at("x").item<int64_t>() == i);
    }
    CHECK_FALSE(one->next());
    CHECK_FALSE(two->next());
  }

  TEST_CASE("loader threads record nothing and start no teams") {
    std::atomic<int> recording{0}, teams{0};
    const auto dataset = std::make_shared<FunctionDataset>(8, [&](int64_t i) {
      recording += grad_enabled();
      const auto self = std::this_thread::get_id();
      parallel_for(64, 1, [&](int64_t, int64_t) { teams += std::this_thread::get_id() != self; });
      return numbered(i);
    });
    const int threads = num_threads();
    set_num_threads(4);
    read_all(DataLoader(dataset, {.batch_size = 2, .num_workers = 2}));
    CHECK(recording == 0);
    CHECK(teams == 0);
    read_all(DataLoader(dataset, {.batch_size = 2}));
    set_num_threads(threads);
    CHECK(recording == 0);
    CHECK(grad_enabled());
  }

  TEST_CASE("random numbers of a batch are its own") {
    const auto dataset = std::make_shared<FunctionDataset>(24, [](int64_t) -> Example {
      return {{"x", randint(0, int64_t{1} << 40, {})}};
    });
    manual_seed(3);
    const Batches all = read_all(DataLoader(dataset, {.batch_size = 3, .seed = 1}), 1);
    CHECK(default_generator().state() == Generator::State{3, 0});  // the model's are untouched
    std::set<int64_t> distinct;
    for (const auto& batch : all) distinct.insert(batch.begin(), batch.end());
    CHECK(distinct.size() == 24);
    const DataLoader threaded(dataset, {.batch_size = 3, .num_workers = 3, .seed = 1});
    CHECK(read_all(threaded, 1) == all);
    CHECK(read_all(threaded, 1, 5) == Batches(all.begin() + 5, all.end()));
    CHECK(read_all(threaded, 2) != all);
    CHECK(read_all(DataLoader(dataset, {.batch_size = 3, .seed = 2}), 1) != all);
  }

  TEST_CASE("a sampler may choose and repeat; one that lies is found out") {
    struct Fixed : Sampler {
      std::vector<int64_t> order;
      int64_t claimed;
      Fixed(std::vector<int64_t> order, int64_t claimed) : order(order), claimed(claimed) {}
      int64_t size() const override { return claimed; }
      std::vector<int64_t> indices(int64_t) const override { return order; }
    };
    const auto with = [](std::vector<int64_t> order, int64_t claimed) {
      return loader_of(5, {.batch_size = 2, .sampler = std::make_shared<Fixed>(order, claimed)});
    };
    CHECK(with({4, 4, 1}, 3).size() == 2);
    CHECK(read_all(with({4, 4, 1}, 3)) == Batches{{4, 4}, {1}});
    CHECK(contains(message_of([&] { with({4, 4, 1}, 4).iterate(0); }), "but gave 3"));
    CHECK(contains(message_of([&] { with({4, 5}, 2).iterate(0); }), "example 5"));
    CHECK(contains(message_of([&] { with({-1, 4}, 2).iterate(0); }), "example -1"));
  }

  TEST_CASE("options out of range are named") {
    const auto message = [](DataLoaderOptions options) {
      return message_of([&] { loader_of(5, options); });
    };
    CHECK(message({}).empty());
    CHECK(contains(message({.batch_size = 0}), "batch_size"));
    CHECK(contains(message({.collator = nullptr}), "collator"));
    CHECK(contains(message({.num_workers = -1}), "num_workers"));
    CHECK(contains(message({.prefetch_factor = 0}), "prefetch_factor"));
    CHECK(contains(message({.world_size = 0}), "world_size"));
    CHECK(contains(message({.rank = 2, .world_size = 2}), "rank must be in [0, 1]; got 2"));
    CHECK(contains(message_of([] { DataLoader(nullptr, {}); }), "null"));
    const DataLoader loader = loader_of(5, {});
    CHECK(contains(message_of([&] { loader.iterate(-1); }), "pass"));
    CHECK(contains(message_of([&] { loader.iterate(0, -1); }), "first batch"));
  }
}
