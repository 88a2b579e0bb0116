// SPDX-License-Identifier: Apache-2.0
// The pointwise cell over rows: whole, in slices on threads, and with the aliases that it allows.
#pragma once

#include "ways.h"

namespace ltlstm::sanitizers {

template <class scalar>
void check_cell_rows(int64_t R, int64_t H, bool peephole, bool shared_row, bool in_place,
                     bool wants_r) {
  const cpu::Kernels<scalar>& kernels = cpu::kernels<scalar>();
  Numbers<scalar> numbers(static_cast<uint32_t>(R + H));
  const auto unwritten = Numbers<scalar>::unwritten;
  const int64_t c_prev_stride = shared_row ? 0 : H;
  const Buffer<scalar> preact = numbers.drawn(R * 4 * H), p = numbers.drawn(3 * H);
  const Buffer<scalar> c_prev = numbers.drawn(shared_row ? H : R * H);
  const Buffer<scalar> dr = numbers.drawn(R * H), dc = numbers.drawn(R * H);

  const auto run = [&](const Way& way) {
    // In place a kernel reads what it is about to overwrite.
    Buffer<scalar> gates = in_place ? preact.copy() : unwritten(R * 4 * H);
    Buffer<scalar> c = unwritten(R * H), r = unwritten(R * H);
    CellRowsForward<scalar> forward{};
    forward.H = H;
    forward.preact = in_place ? gates.data() : preact.data();
    forward.c_prev = c_prev.data();
    forward.c_prev_stride = c_prev_stride;
    forward.peephole = pointer_if(peephole, p);
    forward.gates = gates.data();
    forward.c = c.data();
    forward.r = r.data();
    way.run(R, [&](const Part& part) {
      kernels.cell_rows_forward(forward, part.first_row, part.last_row);
    });
    Buffer<scalar> d_preact = unwritten(R * 4 * H), r_again = unwritten(wants_r * R * H);
    Buffer<scalar> dc_prev = in_place ? dc.copy() : unwritten(R * H);
    CellRowsBackward<scalar> backward{};
    backward.H = H;
    backward.gates = gates.data();
    backward.c_prev = c_prev.data();
    backward.c_prev_stride = c_prev_stride;
    backward.c = c.data();
    backward.peephole = pointer_if(peephole, p);
    backward.dr = dr.data();
    backward.dc = in_place ? dc_prev.data() : dc.data();
    backward.d_preact = d_preact.data();
    backward.dc_prev = dc_prev.data();
    backward.r = pointer_if(wants_r, r_again);
    way.run(R, [&](const Part& part) {
      kernels.cell_rows_backward(backward, part.first_row, part.last_row);
    });
    Buffer<scalar> d_peephole(3 * H, 0);
    way.run(H, [&](const Part& part) {
      kernels.cell_rows_peephole_gradient(backward, R, part.first_row, part.last_row,
                                          d_peephole.data());
    });
    Results<scalar> all;
    for (Buffer<scalar>* each : {&gates, &c, &r, &d_preact, &dc_prev, &r_again, &d_peephole}) {
      require_written(*each, 1, 1, "cell rows");
      all.push_back(std::move(*each));
    }
    return all;
  };

  const Results<scalar> expected = run(alone());
  for (int count : {2, 4}) require_same(run(slices_of_rows(count)), expected, "cell rows");
}

}  // namespace ltlstm::sanitizers
