// The golden cases of layers, attention and losses.
#include "golden_rows.h"

namespace tendril::testing {

using Rows = std::vector<GoldenRow>;
using In = const Tensors&;

Rows golden_layers() {
  Rows rows = {
      {"feed_forward",
       [](In x) {
         return feed_forward(x[0], {x[1], x[2], x[3], x[4]}, Op::gelu_tanh);
       }},
      {"feed_forward_erf",
       [](In x) {
         return feed_forward(x[0], {x[1], x[2], x[3], x[4]}, Op::gelu);
       }},
      {"feed_forward_swiglu",
       [](In x) { return feed_forward(x[0], {.up = x[1], .down = x[2], .gate = x[3]}, Op::silu); }},
      {"softmax_infinite", [](In x) { return softmax(x[0]); }},
      {"layer_norm", [](In x) { return layer_norm(x[0], x[1], x[2]); }},
      {"layer_norm_no_bias", [](In x) { return layer_norm(x[0], x[1], {}, 1e-3); }},
      {"layer_norm_plain", [](In x) { return layer_norm(x[0], {}, {}); }},
      {"layer_norm_wide", [](In x) { return layer_norm(x[0], x[1], x[2]); }},
      {"rms_norm", [](In x) { return rms_norm(x[0], x[1]); }},
      {"rms_norm_large_eps", [](In x) { return rms_norm(x[0], x[1], 0.5); }},
      {"rms_norm_wide", [](In x) { return rms_norm(x[0], x[1]); }},
      {"embedding", [](In x) { return embedding(x[0], x[1]); }},
      {"embedding_padding", [](In x) { return embedding(x[0], x[1], 3); }},
      {"rotary", [](In x) { return rotary_embedding(x[0]); }},
      {"rotary_offset", [](In x) { return rotary_embedding(x[0], 500.0, 17); }},
      {"rotary_interleaved", [](In x) { return rotary_embedding(x[0], 10000.0, 3, true); }},
      {"softmax_long", [](In x) { return softmax(4.0 * x[0]); }},
      {"log_softmax_long", [](In x) { return log_softmax(4.0 * x[0]); }},
  };
  const std::pair<const char*, int64_t> forms[] = {
      {"", -1}, {"_axis0", 0}, {"_axis1", 1}, {"_large", -1}};
  for (const auto& [form, axis] : forms) {
    rows.push_back(
        {std::string("softmax") + form, [axis = axis](In x) { return softmax(x[0], axis); }});
    rows.push_back({std::string("log_softmax") + form,
                    [axis = axis](In x) { return log_softmax(x[0], axis); }});
  }
  return rows;
}

Rows golden_attention() {
  const auto with = [](const char* name, const AttentionOptions& options) {
    return GoldenRow(name, [options](In x) {
      AttentionOptions masked = options;
      if (x.size() > 3) masked.mask = x[3];
      return scaled_dot_product_attention(x[0], x[1], x[2], masked);
    });
  };
  return {
      with("plain", {}),
      with("scale", {.scale = 0.125}),
      with("cross", {}),
      with("causal", {.causal = true}),
      with("causal_cross", {.causal = true}),
      with("causal_one_query", {.causal = true}),
      with("causal_long", {.causal = true}),
      with("window", {.causal = true, .window = 3}),
      with("window_cross", {.causal = true, .window = 4}),
      with("mask", {}),
      with("mask_padding", {}),
      with("mask_causal", {.causal = true}),
      with("bias", {}),
      with("bias_causal", {.causal = true}),
      with("mask_blind_query", {}),
      with("causal_blind_queries", {.causal = true}),
      with("grouped", {}),
      with("grouped_causal", {.causal = true}),
      with("grouped_one", {}),
      with("grouped_mask", {}),
  };
}

Rows golden_losses() {
  Rows rows = {
      {"kl_div_zero_target", [](In x) { return kl_div(x[0], x[1]); }},
      {"cross_entropy_ignore_0",
       [](In x) { return cross_entropy(x[0], x[1], {.ignore_index = 0}); }},
      {"cross_entropy_large",
       [](In x) { return cross_entropy(x[0], x[1], {.reduction = Reduction::none}); }},
      {"cross_entropy_wide", [](In x) { return cross_entropy(x[0], x[1]); }},
      {"cross_entropy_nothing", [](In x) { return cross_entropy(x[0], x[1]); }},
  };
  const std::pair<const char*, Reduction> reductions[] = {
      {"mean", Reduction::mean}, {"sum", Reduction::sum}, {"none", Reduction::none}};
  for (const auto& [name, reduction] : reductions) {
    const auto add = [&rows, suffix = std::string("_") + name](const std::string& loss, auto run) {
      rows.push_back({loss + suffix, run});
    };
    const auto how = reduction;
    add("cross_entropy", [how](In x) { return cross_entropy(x[0], x[1], {.reduction = how}); });
    add("cross_entropy_smooth", [how](In x) {
      return cross_entropy(x[0], x[1], {.label_smoothing = 0.1, .reduction = how});
    });
    add("nll_loss", [how](In x) { return nll_loss(x[0], x[1], -100, how); });
    for (const char* both : {"", "_both"}) {  // the target is a constant, or gets a gradient too
      add(std::string("mse_loss") + both, [how](In x) { return mse_loss(x[0], x[1], how); });
      add(std::string("l1_loss") + both, [how](In x) { return l1_loss(x[0], x[1], how); });
      add(std::string("bce") + both,
          [how](In x) { return binary_cross_entropy_with_logits(x[0], x[1], how); });
      add(std::string("kl_div") + both, [how](In x) { return kl_div(x[0], x[1], how); });
      add(std::string("kl_div_log") + both, [how](In x) { return kl_div(x[0], x[1], how, true); });
    }
    add("bce_extreme", [how](In x) { return binary_cross_entropy_with_logits(x[0], x[1], how); });
  }
  return rows;
}

}  // namespace tendril::testing
