// Randomness: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011).
//
// There is no state to advance per number: number i of draw p of stream s under a seed is a pure
// function of (seed, s, p, i). The same bits come out on any thread count, on CPU and CUDA, in
// recomputation and after resume; a generator's whole state is two integers.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include <tendril/core/api.h>

namespace tendril {

/// What a draw is for. Different streams never share numbers, not even at the same position. A
/// generator counts its draws over all streams: what must not depend on how many dropout masks were
/// drawn (the order of the data) uses a generator of its own.
enum class Stream : uint16_t {
  model = 0,
  init = 1,
  data = 2,
  sampling = 3,
  noise = 4,
  rounding = 5
};

using PhiloxBlock = std::array<uint32_t, 4>;

/// Ten rounds on a 128-bit counter with a 64-bit key.
TENDRIL_HD inline PhiloxBlock philox(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// One draw: names an endless sequence of random numbers indexed by element.
struct RandomKey {
  uint64_t seed = 0;
  uint64_t position = 0;  // which draw of the stream (48 bits are used)
  Stream stream = Stream::model;

  /// Numbers 4 * block .. 4 * block + 3.
  TENDRIL_HD PhiloxBlock block(uint64_t index) const {
    return philox(
        {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
         static_cast<uint32_t>(position),
         static_cast<uint32_t>(position >> 32 & 0xFFFFu) | static_cast<uint32_t>(stream) << 16},
        static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  }
  /// Number `element`, 32 random bits.
  TENDRIL_HD uint32_t bits(uint64_t element) const { return block(element / 4)[element % 4]; }
};

/// [0, 1) with 24 bits.
TENDRIL_HD inline float uniform_from_bits(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

/// Two standard normal numbers from two words (Box-Muller); the first argument of the logarithm is
/// in (0, 1].
TENDRIL_HD inline std::array<double, 2> normal_from_bits(uint32_t bits0, uint32_t bits1) {
  const double radius = std::sqrt(-2.0 * std::log((bits0 + 0.5) * 0x1p-32));
  const double angle = 6.283185307179586 * (bits1 * 0x1p-32);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// A draw keeps an element iff its bits are >= this; integer arithmetic, so CPU and CUDA agree
/// exactly. `p` is the probability to drop, in [0, 1).
inline uint32_t drop_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

/// Hands out keys; `seed` and `position` are its whole state.
class TENDRIL_API Generator {
 public:
  explicit Generator(uint64_t seed = 0) : seed_(seed) {}
  /// Error while a cuda::Graph is recorded: every replay would repeat the same numbers.
  RandomKey next(Stream stream = Stream::model);

  struct State {
    uint64_t seed = 0, position = 0;
    friend bool operator==(const State&, const State&) = default;
  };
  State state() const { return {seed_, position_}; }
  void set_state(State state) { seed_ = state.seed, position_ = state.position; }

 private:
  uint64_t seed_;
  uint64_t position_ = 0;
};

/// The calling thread's generator: the one of the innermost GeneratorGuard, else one per thread
/// that starts with seed 0. Random functions draw from it when they are not given one.
TENDRIL_API Generator& default_generator();
/// default_generator() starts over with this seed.
TENDRIL_API void manual_seed(uint64_t seed);

/// Makes `generator` the calling thread's default while in scope.
class TENDRIL_API GeneratorGuard {
 public:
  explicit GeneratorGuard(Generator& generator);
  ~GeneratorGuard();
  GeneratorGuard(const GeneratorGuard&) = delete;
  GeneratorGuard& operator=(const GeneratorGuard&) = delete;

 private:
  Generator* previous_;
};

}  // namespace tendril
