// DataLoader: batches of a dataset, prepared ahead by threads, with a position that can be returned
// to without loading what comes before.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include <tendril/trainer/data/collator.h>
#include <tendril/trainer/data/dataset.h>
#include <tendril/trainer/data/sampler.h>

namespace tendril {

struct KeptThreads;

/// The batches of one pass, one after the other. It may be let go of at any time; that waits for
/// the examples that are being made.
class TENDRIL_API BatchStream {
 public:
  virtual ~BatchStream();
  /// nullopt at the end. An error of a loader thread is thrown here, at its batch's turn, and again
  /// with every further call.
  virtual std::optional<Batch> next() = 0;
};

struct DataLoaderOptions {
  int64_t batch_size = 8;
  std::shared_ptr<const Sampler> sampler = nullptr;  // null: in order; not for iterable datasets
  DataCollator collator = default_data_collator;
  bool drop_last = false;
  int64_t num_workers = 0;          // threads; 0 prepares each batch when it is asked for
  int64_t prefetch_factor = 2;      // batches each thread may be ahead
  bool persistent_workers = false;  // keep the threads between passes
  bool pin_memory = false;          // page-locked memory, for copies to a GPU (ignored without one)
  // Several processes: batch k of a pass goes to rank k mod world_size. With even_batches the last
  // round is completed from the beginning of the pass, so that all ranks have equally many; with
  // drop_last a round that is not complete is left out.
  int64_t rank = 0, world_size = 1;
  bool even_batches = true;
  // Random functions that the dataset or the collator calls draw from a generator that each batch
  // has to itself, made from this seed and the numbers of the pass and the batch: the same draws
  // with any number of threads and after a resume, and none of them taken from the model's.
  uint64_t seed = 0;
};

class TENDRIL_API DataLoader {
 public:
  /// Error for sizes out of range, or a sampler with an iterable dataset.
  /// Copies of a loader share its threads.
  DataLoader(std::shared_ptr<const Dataset> dataset, DataLoaderOptions options);
  virtual ~DataLoader();

  /// Batches of one pass on this rank; nullopt when the dataset does not know.
  virtual std::optional<int64_t> size() const;
  /// The batches of pass `epoch` from number `first` on. The order, and what each batch holds, does
  /// not depend on the number of threads. A map-style dataset loads nothing of what is skipped; an
  /// iterable one is moved on by ExampleStream::skip, and is read by one thread alone. Examples are
  /// made with recording switched off. Error when either number is negative.
  virtual std::unique_ptr<BatchStream> iterate(int64_t epoch, int64_t first = 0) const;

  const std::shared_ptr<const Dataset>& dataset() const { return dataset_; }
  const DataLoaderOptions& options() const { return options_; }
  /// Examples in the dataset, where known.
  std::optional<int64_t> num_examples() const { return dataset_->size(); }

 private:
  std::shared_ptr<const Dataset> dataset_;
  DataLoaderOptions options_;
  std::shared_ptr<KeptThreads> kept_threads_;
};

}  // namespace tendril
