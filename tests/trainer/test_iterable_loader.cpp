// Batches of a dataset that is walked over.
#include <doctest/doctest.h>

#include <chrono>
#include <stdexcept>
#include <thread>

#include "../test_tools.h"
#include "loader_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// A pass that a function gives, for what must go wrong.
class FunctionStreams : public IterableDataset {
 public:
  using Next = std::function<std::optional<Example>(int64_t walk, int64_t place)>;
  explicit FunctionStreams(Next next) : next_(std::move(next)) {}
  std::unique_ptr<ExampleStream> iterate(int64_t) const override {
    return std::make_unique<Walk>(next_, walks_++);
  }

 private:
  struct Walk : ExampleStream {
    Walk(Next next, int64_t walk) : next_(std::move(next)), walk_(walk) {}
    std::optional<Example> next() override { return next_(walk_, place_++); }
    Next next_;
    int64_t walk_, place_ = 0;
  };
  Next next_;
  mutable std::atomic<int64_t> walks_{0};
};

}  // namespace

TEST_SUITE("iterable_loader") {
  TEST_CASE("batches follow the stream, with and without a thread") {
    for (const int64_t workers : {0, 1, 3}) {
      const DataLoader loader(std::make_shared<WatchedStreams>(7),
                              {.batch_size = 3, .num_workers = workers});
      CHECK_FALSE(loader.size());
      CHECK_FALSE(loader.num_examples());
      CHECK(read_all(loader) == Batches{{0, 1, 2}, {3, 4, 5}, {6}});
      CHECK(read_all(loader, 2) == Batches{{2000, 2001, 2002}, {2003, 2004, 2005}, {2006}});
      const auto stream = loader.iterate(0, 2);
      CHECK(stream->next());
      CHECK_FALSE(stream->next());
      CHECK_FALSE(stream->next());  // the end stays the end
    }
  }

  TEST_CASE("every rank and rule gives what numbered examples give, from every batch on") {
    for (int64_t size = 0; size <= 18; ++size)
      for (int64_t batch_size = 1; batch_size <= 3; ++batch_size)
        for (int64_t world_size = 1; world_size <= 4; ++world_size)
          for (int rule = 0; rule < 4; ++rule)
            for (int64_t rank = 0; rank < world_size; ++rank) {
              CAPTURE(size);
              CAPTURE(batch_size);
              CAPTURE(world_size);
              CAPTURE(rule);
              CAPTURE(rank);
              const DataLoaderOptions options{.batch_size = batch_size,
                                              .drop_last = (rule & 1) != 0,
                                              .rank = rank,
                                              .world_size = world_size,
                                              .even_batches = (rule & 2) != 0};
              const DataLoader numbered(std::make_shared<WatchedDataset>(size), options);
              const DataLoader streamed(std::make_shared<WatchedStreams>(size), options);
              for (int64_t first = 0; first <= *numbered.size() + 1; ++first)
                REQUIRE(read_all(streamed, 0, first) == read_all(numbered, 0, first));
            }
  }

  TEST_CASE("what is skipped is not made") {
    for (const int64_t workers : {0, 1}) {
      const auto dataset = std::make_shared<WatchedStreams>(10);
      const DataLoader loader(dataset, {.batch_size = 2, .num_workers = workers});
      CHECK(read_all(loader, 0, 3) == Batches{{6, 7}, {8, 9}});
      CHECK(dataset->made() == 4);
    }
    // Another rank's share neither.
    const auto dataset = std::make_shared<WatchedStreams>(12);
    read_all(DataLoader(dataset, {.batch_size = 2, .rank = 1, .world_size = 3}));
    CHECK(dataset->made() == 4);
  }

  TEST_CASE("a stream that cannot skip is read through") {
    const auto dataset =
        std::make_shared<FunctionStreams>([](int64_t, int64_t place) -> std::optional<Example> {
          return place < 5000 ? std::optional(numbered(place)) : std::nullopt;
        });
    const DataLoader loader(dataset, {.batch_size = 2, .num_workers = 1});
    CHECK(read_all(loader, 0, 2499) == Batches{{4998, 4999}});
    CHECK(read_all(loader, 0, 2500).empty());
    CHECK(read_all(loader, 0, 100'000).empty());
  }

  TEST_CASE("an endless stream is read no further ahead than allowed, and can be dropped") {
    std::atomic<int64_t> made{0};
    const auto dataset =
        std::make_shared<FunctionStreams>([&](int64_t, int64_t place) -> std::optional<Example> {
          ++made;
          return numbered(place);
        });
    const DataLoader loader(dataset, {.batch_size = 2, .num_workers = 2, .prefetch_factor = 3});
    const auto stream = loader.iterate(0);
    for (int64_t k = 0; k < 10; ++k)
      CHECK(stream->next()->at("x").to_vector<int64_t>()[0] == 2 * k);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    CHECK(made >= 20);
    CHECK(made <= 20 + 2 * 2 * 3);
    loader.iterate(0, int64_t{1} << 40);  // skipping, which would take hours, is given up as well
  }

  TEST_CASE("an error in the stream comes at its turn and stays") {
    for (const int64_t workers : {0, 2}) {
      const auto dataset =
          std::make_shared<FunctionStreams>([](int64_t, int64_t place) -> std::optional<Example> {
            if (place == 5) throw std::runtime_error("torn");
            return numbered(place);
          });
      const DataLoader loader(dataset, {.batch_size = 2, .num_workers = workers});
      const auto stream = loader.iterate(0);
      CHECK(stream->next());
      CHECK(stream->next());
      CHECK_THROWS_WITH(stream->next(), "torn");
      CHECK_THROWS_WITH(stream->next(), "torn");
    }
  }

  TEST_CASE("persistent threads serve streams, too") {
    const DataLoader loader(std::make_shared<WatchedStreams>(5),
                            {.batch_size = 2, .num_workers = 2, .persistent_workers = true});
    for (int64_t pass = 0; pass < 3; ++pass) CHECK(read_all(loader, pass).size() == 3);
  }

  TEST_CASE("mistakes are named") {
    const auto streams = std::make_shared<WatchedStreams>(5);
    CHECK(contains(message_of([&] {
                     DataLoader(streams, {.sampler = std::make_shared<SequentialSampler>(5)});
                   }),
                   "order of its own"));
    CHECK(contains(message_of([&] { streams->get(0); }), "[get]"));
    // A pass that is empty when it is asked for again cannot complete the last round.
    const auto fickle = std::make_shared<FunctionStreams>(
        [](int64_t walk, int64_t place) -> std::optional<Example> {
          return walk == 0 && place < 3 ? std::optional(numbered(place)) : std::nullopt;
        });
    CHECK(contains(message_of([&] {
                     read_all(DataLoader(fickle, {.batch_size = 2, .rank = 1, .world_size = 2}));
                   }),
                   "it must repeat them"));
  }
}
