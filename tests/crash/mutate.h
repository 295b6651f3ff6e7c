// Ways to spoil a file.
#pragma once

#include <random>
#include <string>

namespace longtake::crash {

struct Mutated {
  std::string text, what;
};

// One of: some bits flipped, cut off, a part copied over another, a page of zeros, bytes added or
// removed, lines doubled, exchanged or left out, a digit changed.
Mutated mutate(const std::string& text, std::mt19937& random);

}  // namespace longtake::crash
