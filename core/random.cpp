#include <tendril/core/random.h>

#include <tendril/core/cuda.h>

namespace tendril {
namespace {
thread_local Generator thread_generator;
thread_local Generator* guarded_generator = nullptr;
}  // namespace

RandomKey Generator::next(Stream stream) {
  TENDRIL_CHECK(!cuda::is_recording_graph(),
                "[Graph] random numbers cannot be drawn while a graph is recorded: every replay "
                "would repeat them; switch dropout off or replay without a graph");
  return {seed_, position_++, stream};
}

Generator& default_generator() { return guarded_generator ? *guarded_generator : thread_generator; }

void manual_seed(uint64_t seed) { default_generator().set_state({seed, 0}); }

GeneratorGuard::GeneratorGuard(Generator& generator) : previous_(guarded_generator) {
  guarded_generator = &generator;
}

GeneratorGuard::~GeneratorGuard() { guarded_generator = previous_; }

}  // namespace tendril
