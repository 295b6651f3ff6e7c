// The text form of instructions and its inverse.
#include "parallel/plan/instruction.h"

#include <doctest/doctest.h>

#include "tests/support/expect_error.h"

using namespace longtake;
using longtake::testing::error_of;
using longtake::testing::mentions;

namespace {

const std::pair<Instruction, std::string> examples[] = {
    {Admit{{7}}, "admit b7"},
    {Embed{{7}, {12}, {}}, "embed b7 s12"},
    {Embed{{7}, {12}, Latent{{6}, {13}}}, "embed b7 s12 prefix b6 v13"},
    {Recv{Payload::tokens, {7}, {12}, {3}}, "recv tokens b7 s12 from r3"},
    {Recv{Payload::latent, {7}, {13}, {511}}, "recv latent b7 v13 from r511"},
    {Send{Payload::velocity, {123456789012}, {0}, {0}}, "send velocity b123456789012 s0 to r0"},
    {Forward{{0}, {0}, {}, {}, false, false, false}, "forward b0 s0"},
    {Forward{{7}, {12}, {}, Features{Edge::head, {8}, {11}}, true, true, false},
     "forward b7 s12 prefix tokens suffix head(b8 s11) publish head"},
    {Forward{{7},
             {12},
             Features{Edge::tail, {6}, {12}},
             Features{Edge::head, {8}, {11}},
             false,
             true,
             true},
     "forward b7 s12 prefix tail(b6 s12) suffix head(b8 s11) publish head tail"},
    {Forward{{7}, {12}, Features{Edge::tail, {6}, {13}}, {}, false, false, true},
     "forward b7 s12 prefix tail(b6 s13) publish tail"},
    {Head{{7}, {12}}, "head b7 s12"},
    {SolverStep{{7}, {12}}, "solve b7 s12"},
    {Emit{{7}}, "emit b7"},
    {ReleaseFeatures{{Edge::tail, {6}, {12}}}, "release tail(b6 s12)"},
    {ReleaseLatent{{{7}, {50}}}, "release latent b7 v50"},
    {ReleaseSolver{{7}}, "release solver b7"},
};

}  // namespace

TEST_CASE("an instruction is one line, and the line is the instruction") {
  for (const auto& [instruction, line] : examples) {
    CHECK(to_text(instruction) == line);
    CHECK((parse_instruction(line) == instruction));
  }
}

TEST_CASE("no other text is an instruction") {
  const std::string wrong[] = {
      "",
      "admit",
      "admit b",
      "admit 7",
      "admit b7 ",
      " admit b7",
      "admit b07",
      "admit b+7",
      "admit b7 b8",
      "admit b99999999999999999999",
      "recv latent b7 s13 from r0",
      "recv tokens b7 s13 to r0",
      "send token b7 s13 to r0",
      "forward b7 s12 publish",
      "forward b7 s12 publish tail head",
      "forward b7 s12 suffix head(b8 s11) prefix tail(b6 s12)",
      "forward b7 s12 prefix body(b6 s12)",
      "release b7",
      "release latent b7 s50",
      "jump b7",
  };
  for (const std::string& line : wrong) {
    CAPTURE(line);
    const Error error = error_of([&] { parse_instruction(line); });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK(mentions(error, "`" + line + "`"));
  }
}
