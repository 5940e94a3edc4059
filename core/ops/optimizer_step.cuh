// The step of a rule on a GPU, whatever the rule: one pass over all parameters that share dtypes
// and the rule's numbers.
#pragma once

#include <tendril/core/ops/optimizer_rule_step.h>
#include <tendril/core/ops/optimizer_weights.cuh>
#include <tendril/core/ops/step_gate.cuh>

namespace tendril::ops::cuda {

inline constexpr int64_t kStepPiece = 8192;  // elements per block

template <int kStates, bool kRounding>
using StepBatch =
    tendril::cuda::TensorBatch<kFirstState + kStates, kStepPiece, StepExtra<kRounding>>;

/// What happens to one element whose state is of type C: what the rule makes of its options, or the
/// rule itself.
template <class C, class Rule>
auto element_of(const Rule& rule) {
  if constexpr (requires { rule.template element<C>(); })
    return rule.template element<C>();
  else
    return RoundedRule<C, Rule>(rule);
}

template <class P, class G, int kStates, bool kRounding>
struct StepPointers {
  Weights<P, kRounding> weights;
  const G* gradient;
  state_t<P>* states[kStates > 0 ? kStates : 1];
};

/// Elements [at, at + N).
template <int N, class Element, class P, class G, int kStates, bool kRounding>
__device__ void step_run(const StepPointers<P, G, kStates, kRounding>& to, int64_t at,
                         const Element& element) {
  using C = state_t<P>;
  auto values = to.weights.template load<N>(at);
  const auto g = tendril::cuda::load_vector<G, N>(to.gradient + at);
  tendril::cuda::Vector<C, N> states[kStates > 0 ? kStates : 1];
#pragma unroll
  for (int k = 0; k < kStates; ++k) states[k] = tendril::cuda::load_vector<C, N>(to.states[k] + at);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    C s[kStates > 0 ? kStates : 1];
#pragma unroll
    for (int k = 0; k < kStates; ++k) s[k] = states[k].v[j];
    values.v[j] = element(values.v[j], static_cast<C>(g.v[j]), s);
#pragma unroll
    for (int k = 0; k < kStates; ++k) states[k].v[j] = s[k];
  }
  to.weights.template store<N>(at, values);
#pragma unroll
  for (int k = 0; k < kStates; ++k) tendril::cuda::store_vector<C, N>(to.states[k] + at, states[k]);
}

// Each thread takes 16 bytes of state at a time.
template <int kStates, class Element, class P, class G, bool kRounding>
__global__ void __launch_bounds__(kStepThreads)
    step_kernel(const __grid_constant__ StepBatch<kStates, kRounding> batch, const Element element,
                const Gate gate) {
  if (gate.is_closed()) return;
  using C = state_t<P>;
  constexpr int N = tendril::cuda::kVector<C>;
  const auto piece = batch.piece(blockIdx.x);
  StepPointers<P, G, kStates, kRounding> to = {
      weights_of<P, kRounding>(batch, piece), batch.template at<const G>(piece, kGradient), {}};
#pragma unroll
  for (int k = 0; k < kStates; ++k) to.states[k] = batch.template at<C>(piece, kFirstState + k);
  const int64_t vectors = piece.aligned ? piece.size / N : 0;
  for (int64_t i = threadIdx.x; i < vectors; i += kStepThreads) step_run<N>(to, i * N, element);
  for (int64_t i = vectors * N + threadIdx.x; i < piece.size; i += kStepThreads)
    step_run<1>(to, i, element);
}

/// Queues the updates, all on one device.
template <class Rule>
void queue_steps(std::span<const RuleUpdate<Rule>> updates, const StepGate& gate) {
  if (updates.empty()) return;
  using Set = std::span<const WithGradient<RuleUpdate<Rule>>>;
  constexpr int kStates = Rule::kStates;
  const cudaStream_t stream = tendril::cuda::stream(updates[0].parameter.device());
  for_each_set(updates, [&](Set set) {
    visit_types(Rule::kName, set[0], [&]<class P, class G>(TypeTag<P>, TypeTag<G>, auto rounds) {
      using Batch = StepBatch<kStates, rounds()>;
      const auto element = element_of<state_t<P>>(set[0].first->rule);
      std::vector<typename Batch::Entry> entries;
      for (const auto& [update, gradient] : set) {
        auto& entry = entries.emplace_back();
        for (int k = 0; k < kStates; ++k)
          entry.data[kFirstState + k] = update->states[k].raw_data();
        finish_entry(entry, *update, gradient);
      }
      tendril::cuda::for_each_batch<Batch>(entries, [&](const Batch& batch) {
        step_kernel<kStates, std::remove_const_t<decltype(element)>, P, G, rounds()>
            <<<batch.chunks(), kStepThreads, 0, stream>>>(batch, element, Gate(gate));
      });
    });
  });
  TENDRIL_CUDA_CHECK_LAUNCH(Rule::kName);
}

}  // namespace tendril::ops::cuda
