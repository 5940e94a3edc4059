#include <tendril/trainer/data/sampler.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include <tendril/core/error.h>
#include <tendril/core/random.h>

namespace tendril {
namespace {

// Whole numbers drawn from a key's words, two words each.
class IndexDraws {
 public:
  explicit IndexDraws(RandomKey key) : key_(key) {}

  // Uniform in [0, bound), without bias: the upper half of a 64-bit word times the bound. 2^64 mod
  // bound of the words would give some numbers once too often; the lower half tells them, and they
  // are drawn again (Lemire, "Fast random integer generation in an interval", 2019).
  uint64_t below(uint64_t bound) {
    while (true) {
      const auto product = static_cast<unsigned __int128>(word()) * bound;
      const auto low = static_cast<uint64_t>(product);
      if (low >= bound || low >= (0 - bound) % bound) [[likely]]
        return static_cast<uint64_t>(product >> 64);
    }
  }

 private:
  uint64_t word() {
    if (used_ == 4) {
      block_ = key_.block(next_block_++);
      used_ = 0;
    }
    const uint64_t high = block_[used_], low = block_[used_ + 1];
    used_ += 2;
    return high << 32 | low;
  }

  RandomKey key_;
  PhiloxBlock block_{};
  uint64_t next_block_ = 0;
  size_t used_ = 4;
};

RandomKey key_of_pass(const char* op, uint64_t seed, int64_t epoch) {
  TENDRIL_CHECK(epoch >= 0, "[", op, "] the number of a pass must not be negative; got ", epoch);
  return {seed, static_cast<uint64_t>(epoch), Stream::data};
}

std::vector<int64_t> in_order(int64_t size) {
  std::vector<int64_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

// Fisher-Yates: place i gets one of those still at i, i + 1, ... Each draw is a miss in the
// processor's caches once the order is large, so some are known, and asked for, ahead of the swaps.
std::vector<int64_t> permutation(int64_t size, const RandomKey& key) {
  constexpr int64_t kAhead = 64;
  std::vector<int64_t> order = in_order(size);
  IndexDraws draws(key);
  int64_t* places[kAhead];
  for (int64_t begin = 0; begin < size; begin += kAhead) {
    const int64_t count = std::min(kAhead, size - begin);
    for (int64_t i = 0; i < count; ++i) {
      const auto left = static_cast<uint64_t>(size - begin - i);
      places[i] = order.data() + begin + i + draws.below(left);
      __builtin_prefetch(places[i], 1);
    }
    for (int64_t i = 0; i < count; ++i)
      std::swap(order[static_cast<size_t>(begin + i)], *places[i]);
  }
  return order;
}

int64_t require_size(const char* op, int64_t size) {
  TENDRIL_CHECK(size >= 0, "[", op, "] a size must not be negative; got ", size);
  return size;
}

}  // namespace

Sampler::~Sampler() = default;

SequentialSampler::SequentialSampler(int64_t size)
    : size_(require_size("SequentialSampler", size)) {}

std::vector<int64_t> SequentialSampler::indices(int64_t) const { return in_order(size_); }

RandomSampler::RandomSampler(int64_t size, uint64_t seed)
    : size_(require_size("RandomSampler", size)), seed_(seed) {}

std::vector<int64_t> RandomSampler::indices(int64_t epoch) const {
  return permutation(size_, key_of_pass("RandomSampler", seed_, epoch));
}

LengthGroupedSampler::LengthGroupedSampler(std::vector<int64_t> lengths, int64_t batch_size,
                                           uint64_t seed)
    : lengths_(std::move(lengths)), batch_size_(batch_size), seed_(seed) {
  TENDRIL_CHECK(batch_size >= 1, "[LengthGroupedSampler] batch_size must be at least 1; got ",
                batch_size);
  for (size_t i = 0; i < lengths_.size(); ++i)
    TENDRIL_CHECK(lengths_[i] >= 0, "[LengthGroupedSampler] example ", i, " has length ",
                  lengths_[i], "; lengths must not be negative");
}

std::vector<int64_t> LengthGroupedSampler::indices(int64_t epoch) const {
  std::vector<int64_t> order =
      permutation(size(), key_of_pass("LengthGroupedSampler", seed_, epoch));
  if (order.empty()) return order;
  const int64_t batches = std::clamp<int64_t>(size() / batch_size_ / 4, 1, 50);
  const int64_t piece = std::min(batches * std::min(batch_size_, size()), size());
  const auto length_of = [&](int64_t index) { return lengths_[static_cast<size_t>(index)]; };
  const auto longer = [&](int64_t a, int64_t b) { return length_of(a) > length_of(b); };
  size_t longest = 0;  // the first of the piece that has the longest example of all
  for (int64_t begin = 0; begin < size(); begin += piece) {
    const auto first = order.begin() + begin;
    std::stable_sort(first, order.begin() + std::min(begin + piece, size()), longer);
    if (longer(*first, order[longest])) longest = static_cast<size_t>(begin);
  }
  std::swap(order[0], order[longest]);
  return order;
}

}  // namespace tendril
