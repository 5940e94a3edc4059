#include <tendril/trainer/data/batch_plan.h>

#include <algorithm>

namespace tendril {
namespace {

int64_t count_places(int64_t examples, const BatchRules& rules) {
  const int64_t round = rules.round_size();
  if (rules.drop_last) return examples / round * round;
  if (rules.completes_rounds()) return (examples / round + (examples % round != 0)) * round;
  return examples;
}

}  // namespace

BatchPlan::BatchPlan(int64_t examples, const BatchRules& rules)
    : examples_(examples), rules_(rules), places_(count_places(examples, rules)) {
  // Batches of all ranks, then those at rank, rank + W, rank + 2 W, ...
  const int64_t all = places_ / rules.batch_size + (places_ % rules.batch_size != 0);
  batches_ = all > rules.rank ? (all - rules.rank - 1) / rules.world_size + 1 : 0;
}

BatchPlan::Places BatchPlan::places_of(int64_t number) const {
  const int64_t begin = rules_.begin_of(number);
  return {begin, std::min(begin + rules_.batch_size, places_)};
}

}  // namespace tendril
