#include <tendril/core/nearest_name.h>
#include <tendril/trainer/sharding/config_section.h>
#include <tendril/trainer/sharding/fsdp.h>

#include <algorithm>
#include <sstream>

namespace tendril::sharding {
namespace {

using dist::ShardingStrategy;

struct StrategyWord {
  const char* word;
  ShardingStrategy strategy;
};
constexpr StrategyWord kStrategies[] = {
    {"full_shard", ShardingStrategy::full_shard},
    {"shard_grad_op", ShardingStrategy::shard_grad_op},
    {"no_shard", ShardingStrategy::no_shard},
    {"hybrid_shard", ShardingStrategy::hybrid_shard},
    {"hybrid_shard_zero2", ShardingStrategy::hybrid_shard_zero2}};
constexpr const char* kOffload = "offload";
constexpr const char* kAutoWrap = "auto_wrap";

std::vector<std::string> words_of(std::string text) {
  for (char& c : text) {
    if (c == ',' || c == ';') c = ' ';
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

[[noreturn]] void unknown_word(const std::string& word, const std::string& where) {
  std::vector<std::string> known = {kOffload, kAutoWrap};
  for (const StrategyWord& entry : kStrategies) known.push_back(entry.word);
  const std::string nearest = nearest_name(known, word);
  fail(where, "fsdp is made of ", listed(known), "; got ", json_quote(word.substr(0, 60)),
       nearest.empty() ? "" : "; did you mean " + nearest + "?");
}

}  // namespace

std::optional<FsdpWords> fsdp_words(const std::string& text, const std::string& where) {
  TENDRIL_CHECK(is_utf8(text), where, "fsdp is not valid UTF-8");
  const std::vector<std::string> words = words_of(text);
  if (words.empty()) return std::nullopt;
  if (words.size() == 1)
    if (const std::optional<bool> on = flag_from(words[0]))
      return *on ? std::optional(FsdpWords{ShardingStrategy::full_shard}) : std::nullopt;
  FsdpWords result;
  std::string chosen;
  for (const std::string& word : words) {
    const auto* entry = std::find_if(std::begin(kStrategies), std::end(kStrategies),
                                     [&](const StrategyWord& s) { return word == s.word; });
    if (entry != std::end(kStrategies)) {
      TENDRIL_CHECK(chosen.empty() || chosen == word, where, "fsdp names two strategies, ", chosen,
                    " and ", word, "; choose one");
      chosen = word;
      result.strategy = entry->strategy;
    } else if (word == kOffload || word == kAutoWrap) {
      (word == kOffload ? result.offload : result.auto_wrap) = true;
    } else {
      unknown_word(word, where);
    }
  }
  TENDRIL_CHECK(!result.offload || result.strategy, where,
                "fsdp says offload, but not what is sharded; for example \"full_shard offload\"");
  return result;
}

}  // namespace tendril::sharding
