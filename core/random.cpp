#include <tendril/core/random.h>

namespace tendril {
namespace {
thread_local Generator thread_generator;
thread_local Generator* guarded_generator = nullptr;
}  // namespace

Generator& default_generator() { return guarded_generator ? *guarded_generator : thread_generator; }

void manual_seed(uint64_t seed) { default_generator().set_state({seed, 0}); }

GeneratorGuard::GeneratorGuard(Generator& generator) : previous_(guarded_generator) {
  guarded_generator = &generator;
}

GeneratorGuard::~GeneratorGuard() { guarded_generator = previous_; }

}  // namespace tendril
