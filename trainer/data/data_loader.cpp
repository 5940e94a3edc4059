#include <tendril/trainer/data/data_loader.h>

#include <mutex>
#include <utility>

#include <tendril/core/cuda.h>
#include <tendril/core/error.h>
#include <tendril/core/random.h>
#include <tendril/trainer/data/batch_makers.h>
#include <tendril/trainer/data/batch_plan.h>
#include <tendril/trainer/data/prefetcher.h>
#include <tendril/trainer/data/worker_threads.h>

namespace tendril {

// The threads of a loader with persistent_workers, between passes.
struct KeptThreads {
  std::mutex mutex;
  std::shared_ptr<WorkerThreads> threads;

  // Those kept, unless another stream has them: two streams side by side must not wait for each
  // other's reader.
  std::shared_ptr<WorkerThreads> take(int64_t count) {
    const std::lock_guard lock(mutex);
    if (threads && threads.use_count() > 1) return std::make_shared<WorkerThreads>(count);
    if (!threads) threads = std::make_shared<WorkerThreads>(count);
    return threads;
  }
};

namespace {

constexpr int64_t kMost = int64_t{1} << 31;  // keeps products of sizes within 63 bits

void require_between(const char* what, int64_t value, int64_t least, int64_t most) {
  TENDRIL_CHECK(value >= least && value <= most, "[DataLoader] ", what, " must be in [", least,
                ", ", most, "]; got ", value);
}

const IterableDataset* as_iterable(const Dataset* dataset) {
  return dynamic_cast<const IterableDataset*>(dataset);
}

BatchRules rules_of(const DataLoaderOptions& options) {
  return {.batch_size = options.batch_size,
          .rank = options.rank,
          .world_size = options.world_size,
          .drop_last = options.drop_last,
          .even_batches = options.even_batches};
}

// The generator of one batch; its blocks are counted from above, the sampler's from below.
Generator generator_of_batch(uint64_t seed, int64_t epoch, int64_t batch) {
  const RandomKey key{seed, static_cast<uint64_t>(epoch), Stream::data};
  const PhiloxBlock words = key.block(~static_cast<uint64_t>(batch));
  return Generator(uint64_t{words[0]} << 32 | words[1]);
}

void pin(Batch& batch) {
  for (auto& [name, tensor] : batch)
    if (tensor.defined() && tensor.device().is_cpu()) tensor = cuda::pin_memory(tensor);
}

// What every batch gets besides its examples: random numbers of its own and, if wanted, memory that
// a GPU can read.
BatchMaker with_surroundings(BatchMaker make, const DataLoaderOptions& options, int64_t epoch) {
  const bool pinned = options.pin_memory && cuda::is_available();
  return [=, make = std::move(make), seed = options.seed, rank = options.rank,
          world_size = options.world_size](int64_t number, const std::atomic<bool>& stop) {
    Generator generator = generator_of_batch(seed, epoch, number * world_size + rank);
    const GeneratorGuard guard(generator);
    std::optional<Batch> batch = make(number, stop);
    if (batch && pinned) pin(*batch);
    return batch;
  };
}

}  // namespace

DataLoader::DataLoader(std::shared_ptr<const Dataset> dataset, DataLoaderOptions options)
    : dataset_(std::move(dataset)), options_(std::move(options)) {
  TENDRIL_CHECK(dataset_, "[DataLoader] the dataset must not be null");
  TENDRIL_CHECK(options_.collator, "[DataLoader] the collator must not be empty");
  require_between("batch_size", options_.batch_size, 1, kMost);
  require_between("num_workers", options_.num_workers, 0, 4096);
  require_between("prefetch_factor", options_.prefetch_factor, 1, 4096);
  require_between("world_size", options_.world_size, 1, int64_t{1} << 20);
  require_between("rank", options_.rank, 0, options_.world_size - 1);
  const bool iterable = as_iterable(dataset_.get());
  TENDRIL_CHECK(!iterable || !options_.sampler,
                "[DataLoader] an iterable dataset has an order of its own; got a sampler for one");
  TENDRIL_CHECK(iterable || dataset_->size(),
                "[DataLoader] the dataset does not know its size; only an IterableDataset may");
  if (options_.persistent_workers) kept_threads_ = std::make_shared<KeptThreads>();
}

DataLoader::~DataLoader() = default;

std::optional<int64_t> DataLoader::size() const {
  const std::optional<int64_t> examples =
      options_.sampler ? options_.sampler->size() : dataset_->size();
  if (!examples) return std::nullopt;
  return BatchPlan(*examples, rules_of(options_)).size();
}

std::unique_ptr<BatchStream> DataLoader::iterate(int64_t epoch, int64_t first) const {
  TENDRIL_CHECK(epoch >= 0, "[DataLoader] the number of a pass must not be negative; got ", epoch);
  const BatchRules rules = rules_of(options_);
  require_between("the first batch", first, 0, (int64_t{1} << 62) / rules.round_size());
  const auto iterable = std::dynamic_pointer_cast<const IterableDataset>(dataset_);
  BatchMaker make =
      with_surroundings(iterable ? batches_in_turn(iterable, options_, rules, epoch)
                                 : batches_by_number(dataset_, options_, rules, epoch),
                        options_, epoch);
  if (options_.num_workers == 0) return std::make_unique<DirectStream>(std::move(make), first);
  const int64_t threads = iterable ? 1 : options_.num_workers;
  return std::make_unique<Prefetcher>(
      std::move(make), first, options_.num_workers * options_.prefetch_factor,
      kept_threads_ ? kept_threads_->take(threads) : std::make_shared<WorkerThreads>(threads));
}

}  // namespace tendril
