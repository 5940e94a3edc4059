#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <thread>

#include <tendril/core/random.h>

using namespace tendril;

TEST_SUITE_BEGIN("random");

// Vectors of the Random123 distribution (kat_vectors, philox4x32 10).
TEST_CASE("philox known answers") {
  CHECK(philox({0, 0, 0, 0}, 0, 0) == PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const uint32_t ones = 0xffffffff;
  CHECK(philox({ones, ones, ones, ones}, ones, ones) ==
        PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
        PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  CHECK(philox({0, 0, 0, 0}, 42, 0) == PhiloxBlock{0x9ceaf053, 0x77f5493b, 0x12bf50ad, 0x5742b3d7});
  CHECK(philox({1, 0, 0, 0}, 42, 0) == PhiloxBlock{0xfcdb2127, 0x53ba6cfd, 0x838f5a6e, 0x744e06fb});
}

TEST_CASE("a key's numbers are indexed by element") {
  const RandomKey key{.seed = 42};
  CHECK(key.block(0) == philox({0, 0, 0, 0}, 42, 0));
  CHECK(key.block(1) == philox({1, 0, 0, 0}, 42, 0));
  CHECK(key.bits(0) == 0x9ceaf053u);
  CHECK(key.bits(3) == 0x5742b3d7u);
  CHECK(key.bits(6) == 0x838f5a6eu);
  // Every field lands in its own place of counter and key.
  const RandomKey wide{
      .seed = 0x1111111122222222, .position = 0x333344444444, .stream = Stream::noise};
  CHECK(wide.block(0x5555555566666666) ==
        philox({0x66666666, 0x55555555, 0x44444444, 0x00043333}, 0x22222222, 0x11111111));
}

TEST_CASE("uniform numbers") {
  CHECK(uniform_from_bits(RandomKey{.seed = 42}.bits(0)) ==
        doctest::Approx(.61295986).epsilon(1e-8));
  CHECK(uniform_from_bits(0) == 0.0f);
  CHECK(uniform_from_bits(0xffffffff) == 1.0f - 0x1p-24f);  // never 1
}

TEST_CASE("dropping a tenth of 100000 elements under key 42 drops exactly 9872") {
  const RandomKey key{.seed = 42};
  const uint32_t threshold = drop_threshold(0.1);
  CHECK(threshold == 429496729u);
  int dropped = 0;
  for (uint64_t element = 0; element < 100'000; ++element) dropped += key.bits(element) < threshold;
  CHECK(dropped == 9872);
  CHECK(drop_threshold(0.0) == 0u);  // keeps everything
  CHECK(drop_threshold(0.5) == 0x80000000u);
}

TEST_CASE("normal numbers have the moments of the standard normal distribution") {
  const RandomKey key{.seed = 7, .stream = Stream::init};
  const int pairs = 100'000;
  double sum = 0, squares = 0, cubes = 0, fourths = 0;
  for (uint64_t i = 0; i < pairs; ++i)
    for (const double x : normal_from_bits(key.bits(2 * i), key.bits(2 * i + 1)))
      sum += x, squares += x * x, cubes += x * x * x, fourths += x * x * x * x;
  const double n = 2 * pairs;  // tolerances: five standard deviations of each estimate
  CHECK(std::abs(sum / n) < 5 * std::sqrt(1 / n));
  CHECK(std::abs(squares / n - 1) < 5 * std::sqrt(2 / n));
  CHECK(std::abs(cubes / n) < 5 * std::sqrt(15 / n));
  CHECK(std::abs(fourths / n - 3) < 5 * std::sqrt(96 / n));
  for (const uint32_t bits : {0u, 0xffffffffu})  // the ends of the range stay finite
    for (const double x : normal_from_bits(bits, bits)) CHECK(std::isfinite(x));
}

TEST_CASE("draws, streams and seeds do not share numbers") {
  std::set<PhiloxBlock> seen;
  int count = 0;
  for (const uint64_t seed : {0, 1})
    for (const uint64_t position : {0, 1, 2})
      for (const Stream stream : {Stream::model, Stream::init, Stream::data, Stream::sampling,
                                  Stream::noise, Stream::rounding})
        for (uint64_t block = 0; block < 50; ++block, ++count)
          seen.insert(RandomKey{seed, position, stream}.block(block));
  CHECK(seen.size() == static_cast<size_t>(count));
}

TEST_CASE("a generator's state is its seed and position") {
  Generator generator(5);
  CHECK(generator.state() == Generator::State{5, 0});
  const RandomKey first = generator.next(), second = generator.next(Stream::data);
  CHECK(first.seed == 5);
  CHECK(first.position == 0);
  CHECK(first.stream == Stream::model);
  CHECK(second.position == 1);
  CHECK(second.stream == Stream::data);
  CHECK(generator.state() == Generator::State{5, 2});
  const auto saved = generator.state();
  const uint32_t next = generator.next().bits(0);
  generator.set_state(saved);
  CHECK(generator.next().bits(0) == next);
}

TEST_CASE("guards replace the thread's generator and nest") {
  Generator& outside = default_generator();
  const auto before = outside.state();
  Generator first(1), second(2);
  {
    const GeneratorGuard guard(first);
    CHECK(&default_generator() == &first);
    {
      const GeneratorGuard inner(second);
      CHECK(&default_generator() == &second);
      manual_seed(9);
      CHECK(second.state() == Generator::State{9, 0});
    }
    CHECK(&default_generator() == &first);
    default_generator().next();
  }
  CHECK(&default_generator() == &outside);
  CHECK(outside.state() == before);
  CHECK(first.state() == Generator::State{1, 1});
}

TEST_CASE("manual_seed starts over, each thread has its own generator") {
  const auto before = default_generator().state();
  manual_seed(123);
  CHECK(default_generator().state() == Generator::State{123, 0});
  Generator::State other;
  std::thread([&] { other = default_generator().state(); }).join();
  CHECK(other == Generator::State{0, 0});
  default_generator().set_state(before);
}

TEST_SUITE_END();
