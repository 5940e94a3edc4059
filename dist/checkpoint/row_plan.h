// Private to dist: which rank writes which rows. All ranks tell what they have and then find the
// same plan, or the same fault, each for itself.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <tendril/dist/sharded_checkpoint.h>

namespace tendril::dist::shards {

/// What a rank has, as text for the others. Error for tensors that nobody could write, without the
/// operation's name in front: the caller puts the rank there.
std::string describe_rows(const std::vector<ShardedTensor>& tensors);

/// From the descriptions of all ranks: every tensor with its rows, and for the file of each that of
/// the first rank that has them, files[rank]. Error for dtypes or shapes that differ, gaps, and
/// rows that overlap without being the same.
std::map<std::string, StoredTensor> plan_rows(const std::vector<std::string>& descriptions,
                                              const std::vector<std::string>& files);

}  // namespace tendril::dist::shards
