#include <tendril/trainer/data/batch_makers.h>

#include <algorithm>
#include <utility>
#include <vector>

#include <tendril/core/error.h>

namespace tendril {
namespace {

// The order of a pass; checked once, so that no worker meets a number that the dataset lacks.
std::shared_ptr<const std::vector<int64_t>> order_of(const Sampler& sampler, int64_t epoch,
                                                     int64_t examples) {
  auto order = std::make_shared<const std::vector<int64_t>>(sampler.indices(epoch));
  TENDRIL_CHECK(static_cast<int64_t>(order->size()) == sampler.size(),
                "[DataLoader] the sampler says that a pass has ", sampler.size(),
                " examples but gave ", order->size());
  for (const int64_t index : *order)
    TENDRIL_CHECK(index >= 0 && index < examples, "[DataLoader] the sampler gave example ", index,
                  "; the dataset has ", examples);
  return order;
}

// Walks over a pass whose length shows at its end.
class TurnTaker {
 public:
  TurnTaker(std::shared_ptr<const IterableDataset> dataset, DataCollator collator,
            const BatchRules& rules, int64_t epoch)
      : dataset_(std::move(dataset)),
        collator_(std::move(collator)),
        rules_(rules),
        epoch_(epoch),
        stream_(open()) {}

  std::optional<Batch> batch(int64_t number, const std::atomic<bool>& stop) {
    const int64_t begin = rules_.begin_of(number);
    std::vector<Example> examples;
    const int64_t round_begin = begin - rules_.rank * rules_.batch_size;
    if (skip_to(begin, stop)) read(examples, stop);
    // Whether a round is complete shows only when the other ranks' share was there, too.
    if (rules_.drop_last && !skip_to(round_begin + rules_.round_size(), stop)) return std::nullopt;
    if (ended_ && rules_.completes_rounds() && place_ > round_begin)
      complete(examples, begin, stop);
    if (examples.empty() || stop) return std::nullopt;
    return collator_(examples);
  }

 private:
  std::unique_ptr<ExampleStream> open() const {
    auto stream = dataset_->iterate(epoch_);
    TENDRIL_CHECK(stream, "[DataLoader] the dataset's iterate(", epoch_, ") gave null");
    return stream;
  }

  // False when the pass ends before `place`. In steps, since a stream may have to make what it
  // skips.
  bool skip_to(int64_t place, const std::atomic<bool>& stop) {
    while (!ended_ && !stop && place_ < place) {
      const int64_t step = std::min<int64_t>(place - place_, 1024);
      const int64_t skipped = stream_->skip(step);
      place_ += skipped;
      ended_ = skipped < step;
    }
    return place_ >= place;
  }

  void read(std::vector<Example>& examples, const std::atomic<bool>& stop) {
    while (!ended_ && !stop && static_cast<int64_t>(examples.size()) < rules_.batch_size) {
      std::optional<Example> example = stream_->next();
      if (!example) {
        ended_ = true;
        return;
      }
      examples.push_back(std::move(*example));
      ++place_;
    }
  }

  // Fills up a batch whose places lie, from some one on, behind the end: place p holds example
  // p mod n, read in another walk over the same pass.
  void complete(std::vector<Example>& examples, int64_t begin, const std::atomic<bool>& stop) {
    const auto missing = [&] {
      return static_cast<int64_t>(examples.size()) < rules_.batch_size && !stop;
    };
    if (!missing()) return;
    auto again = open();
    again->skip((begin + static_cast<int64_t>(examples.size())) % place_);
    for (bool fresh = false; missing();) {
      if (std::optional<Example> example = again->next()) {
        examples.push_back(std::move(*example));
        fresh = false;
      } else {
        TENDRIL_CHECK(!fresh, "[DataLoader] pass ", epoch_, " of the iterable dataset had ", place_,
                      " examples and none when it was asked for again; it must repeat them");
        again = open();
        fresh = true;
      }
    }
  }

  std::shared_ptr<const IterableDataset> dataset_;
  DataCollator collator_;
  BatchRules rules_;
  int64_t epoch_;
  std::unique_ptr<ExampleStream> stream_;
  int64_t place_ = 0;   // how many examples the stream is past
  bool ended_ = false;  // then place_ is the length of the pass
};

}  // namespace

BatchMaker batches_by_number(std::shared_ptr<const Dataset> dataset,
                             const DataLoaderOptions& options, const BatchRules& rules,
                             int64_t epoch) {
  const int64_t examples = dataset->size().value();
  const auto order = options.sampler ? order_of(*options.sampler, epoch, examples) : nullptr;
  const BatchPlan plan(order ? options.sampler->size() : examples, rules);
  return [=, dataset = std::move(dataset), collator = options.collator](
             int64_t number, const std::atomic<bool>& stop) -> std::optional<Batch> {
    if (number >= plan.size()) return std::nullopt;
    const auto [begin, end] = plan.places_of(number);
    std::vector<Example> batch;
    batch.reserve(static_cast<size_t>(end - begin));
    for (int64_t place = begin; place < end; ++place) {
      if (stop) return std::nullopt;
      const int64_t index = plan.example_at(place);
      batch.push_back(dataset->get(order ? (*order)[static_cast<size_t>(index)] : index));
    }
    return collator(batch);
  };
}

BatchMaker batches_in_turn(std::shared_ptr<const IterableDataset> dataset,
                           const DataLoaderOptions& options, const BatchRules& rules,
                           int64_t epoch) {
  auto taker = std::make_shared<TurnTaker>(std::move(dataset), options.collator, rules, epoch);
  return
      [taker](int64_t number, const std::atomic<bool>& stop) { return taker->batch(number, stop); };
}

}  // namespace tendril
