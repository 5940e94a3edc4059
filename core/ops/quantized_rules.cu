// The rules that keep their states in 8 bits on a GPU: a warp takes a block of 256 elements, reads
// its codes, applies the rule, finds the new largest magnitudes and writes codes again. The file is
// compiled without contractions (cmake/library.cmake), so that parameters and codes are the CPU's.
#include <tendril/core/ops/code_book.h>
#include <tendril/core/ops/quantized_rule_step.h>
#include <tendril/core/ops/optimizer_weights.cuh>
#include <tendril/core/ops/quantized_block.cuh>
#include <tendril/core/ops/step_gate.cuh>

namespace tendril::ops::cuda {
namespace {

using tendril::cpu::CodeFormulas;

constexpr int64_t kPiece = 8192;  // elements per block of threads

// The maps of all states.
template <int kStates>
struct Maps {
  CodeFormulas of[kStates];
};

// Of a state the codes, then the largest magnitudes.
template <int kStates, bool kRounding>
using Batch = tendril::cuda::TensorBatch<kFirstState + 2 * kStates, kPiece, StepExtra<kRounding>,
                                         3900 - static_cast<int>(sizeof(Maps<kStates>))>;

template <class P, class G, int kStates, bool kRounding>
struct Pointers {
  Weights<P, kRounding> weights;
  const G* gradient;
  uint8_t* codes[kStates];
  float* absmax[kStates];
};

// The rule on the lane's numbers. Where a new state is not finite, the element's states become 0
// and its parameter stays.
template <class Rule>
__device__ void apply(const RoundedRule<float, Rule>& rule, float (&p)[kLaneNumbers],
                      const float (&g)[kLaneNumbers],
                      float (&states)[Rule::kStates][kLaneNumbers]) {
#pragma unroll
  for (int i = 0; i < kLaneNumbers; ++i) {
    float s[Rule::kStates];
    for (int k = 0; k < Rule::kStates; ++k) s[k] = states[k][i];
    const float stepped = rule(p[i], g[i], s);
    bool usable = true;
    for (const float state : s) usable = usable && tendril::cpu::is_finite(state);
    p[i] = usable ? stepped : p[i];
    for (int k = 0; k < Rule::kStates; ++k) states[k][i] = usable ? s[k] : 0.0f;
  }
}

// Calls body(std::integral_constant<int, k>) for each state, as signs are template arguments.
template <int kStates, class Body>
__device__ void for_each_state(const Body& body) {
  body(std::integral_constant<int, 0>());
  if constexpr (kStates > 1) body(std::integral_constant<int, 1>());
  static_assert(kStates <= 2);
}

// The block of the calling warp, from element `at` of the piece on.
template <class Rule, class P, class G, bool kRounding>
__device__ void step_block(const Pointers<P, G, Rule::kStates, kRounding>& to, int64_t at,
                           const BlockPart& part, const Maps<Rule::kStates>& maps,
                           const RoundedRule<float, Rule>& rule) {
  constexpr int kStates = Rule::kStates;
  float p[kLaneNumbers] = {}, g[kLaneNumbers], states[kStates][kLaneNumbers];
  load_numbers(to.gradient + at, part, g);
  for_each_run(part, [&]<int N>(std::integral_constant<int, N>, int index, int element) {
    const auto values = to.weights.template load<N>(at + element);
    for (int j = 0; j < N; ++j) p[index + j] = values.v[j];
  });
  for_each_state<kStates>([&]<int k>(std::integral_constant<int, k>) {
    const float absmax = to.absmax[k][at / kQuantBlock];
    load_codes<Rule::kSigned[k]>(maps.of[k], to.codes[k] + at, absmax, part, states[k]);
  });
  apply(rule, p, g, states);
  for_each_run(part, [&]<int N>(std::integral_constant<int, N>, int index, int element) {
    tendril::cuda::Vector<float, N> values;
    for (int j = 0; j < N; ++j) values.v[j] = p[index + j];
    to.weights.template store<N>(at + element, values);
  });
  for_each_state<kStates>([&]<int k>(std::integral_constant<int, k>) {
    const float largest = largest_magnitude(states[k]);  // all lanes have read the old one by now
    store_codes<Rule::kSigned[k]>(maps.of[k], states[k], largest, part, to.codes[k] + at);
    if (threadIdx.x % tendril::cuda::kWarp == 0) to.absmax[k][at / kQuantBlock] = largest;
  });
}

template <class Rule, class P, class G, bool kRounding>
__global__ void __launch_bounds__(kStepThreads)
    quantized_step_kernel(const __grid_constant__ Batch<Rule::kStates, kRounding> batch,
                          const RoundedRule<float, Rule> rule,
                          const __grid_constant__ Maps<Rule::kStates> formulas, const Gate gate) {
  if (gate.is_closed()) return;
  __shared__ Maps<Rule::kStates> maps;
  copy_to_shared(formulas, maps);
  const auto piece = batch.piece(blockIdx.x);
  Pointers<P, G, Rule::kStates, kRounding> to = {
      weights_of<P, kRounding>(batch, piece), batch.template at<const G>(piece, kGradient), {}, {}};
#pragma unroll
  for (int k = 0; k < Rule::kStates; ++k) {
    const auto& data = batch.entries[piece.tensor].data;
    to.codes[k] = batch.template at<uint8_t>(piece, kFirstState + 2 * k);
    to.absmax[k] = static_cast<float*>(data[kFirstState + 2 * k + 1]) + piece.begin / kQuantBlock;
  }
  constexpr int64_t kStride = kStepThreads / tendril::cuda::kWarp * kQuantBlock;
  for (int64_t at = threadIdx.x / tendril::cuda::kWarp * kQuantBlock; at < piece.size;
       at += kStride) {
    const int64_t count = piece.size - at < kQuantBlock ? piece.size - at : kQuantBlock;
    const BlockPart part = {static_cast<int>(count), piece.aligned && count == kQuantBlock};
    step_block(to, at, part, maps, rule);
  }
}

template <class Rule>
Maps<Rule::kStates> maps_of() {
  Maps<Rule::kStates> maps;
  for (int k = 0; k < Rule::kStates; ++k)
    maps.of[k] = code_book(Rule::kSigned[k] ? CodeMap::with_sign : CodeMap::without_sign);
  return maps;
}

template <class Rule>
void queue_steps(std::span<const QuantizedRuleUpdate<Rule>> updates, const StepGate& gate) {
  using Set = std::span<const WithGradient<QuantizedRuleUpdate<Rule>>>;
  constexpr int kStates = Rule::kStates;
  const cudaStream_t stream = tendril::cuda::stream(updates[0].parameter.device());
  const Maps<kStates> maps = maps_of<Rule>();
  for_each_set(updates, [&](Set set) {
    visit_types(Rule::kName, set[0], [&]<class P, class G>(TypeTag<P>, TypeTag<G>, auto rounds) {
      if constexpr (!std::is_same_v<P, double>) {
        using Table = Batch<kStates, rounds()>;
        const RoundedRule<float, Rule> rule(set[0].first->rule);
        std::vector<typename Table::Entry> entries;
        for (const auto& [update, gradient] : set) {
          auto& entry = entries.emplace_back();
          for (int k = 0; k < kStates; ++k) {
            entry.data[kFirstState + 2 * k] = update->states[k].codes.raw_data();
            entry.data[kFirstState + 2 * k + 1] = update->states[k].absmax.raw_data();
          }
          finish_entry(entry, *update, gradient);
        }
        tendril::cuda::for_each_batch<Table>(entries, [&](const Table& batch) {
          quantized_step_kernel<Rule, P, G, rounds()>
              <<<batch.chunks(), kStepThreads, 0, stream>>>(batch, rule, maps, Gate(gate));
        });
      }
    });
  });
  TENDRIL_CUDA_CHECK_LAUNCH(Rule::kName);
}

}  // namespace

template <class Rule>
void apply_rules(std::span<const QuantizedRuleUpdate<Rule>> updates, const StepGate& gate) {
  queue_steps(updates, gate);
}

#define RULE(...)                                                                           \
  template void apply_rules<__VA_ARGS__>(std::span<const QuantizedRuleUpdate<__VA_ARGS__>>, \
                                         const StepGate&);
#include <tendril/core/ops/quantized_rules.def>

}  // namespace tendril::ops::cuda
