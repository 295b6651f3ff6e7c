#include "tests/attention/worker_fixture.h"

#include <cmath>
#include <cstring>

namespace longtake::testing {

AttentionCase::AttentionCase(DType dtype, int64_t queries, int64_t heads, int64_t head_dim,
                             const std::vector<int64_t>& rows, uint64_t seed)
    : scale(1.0f / std::sqrt(static_cast<float>(head_dim))) {
  const auto random = [&](int64_t n, uint64_t which) {
    return on_device(random_tensor({n, heads, head_dim}, 100 * seed + which, 2.0f, dtype));
  };
  const StreamRef stream = test_stream();
  q = random(queries, 0);
  out = OwnedTensor(dtype, q.shape(), stream.device());
  for (size_t i = 0; i < rows.size(); ++i) {
    k.push_back(random(rows[i], 2 * i + 1));
    v.push_back(random(rows[i], 2 * i + 2));
  }
  for (size_t i = 0; i < rows.size(); ++i) segments.push_back({k[i], v[i]});
  AttentionArgs all = args();
  attention(all, stream);
  expected = to_host(out, stream);
  clear();
}

AttentionArgs AttentionCase::args() {
  return {.q = q, .segments = segments, .out = out, .scale = scale};
}

bool AttentionCase::right() const {
  const OwnedTensor found = to_host(out, test_stream());
  return std::memcmp(found.view().data, expected.view().data, expected.bytes()) == 0;
}

void AttentionCase::clear() {
  fill_zero(out, test_stream());
  test_stream().synchronize();
}

}  // namespace longtake::testing
