// A systolic array with ROWS x COLS processing elements and the sequencer that feeds it fold by fold.
//
// Operands enter the west and north edges as aligned vectors, are skewed by one register a row (column), move one
// processing element a clock, and results leave the south edge as aligned vectors again. Nothing in this file
// knows how long a GEMM takes: every state advances when the one before it has finished, and cycles are counted
// outside. Single-buffered builds move their chain with one global enable, so the whole array must be idle;
// double-buffered builds let all control bits travel with the data, so two folds can be inside at the same time.
`default_nettype none

package systolic_control;
    localparam int MULTIPLY = 0;  // this element multiplies now
    localparam int FIRST = 1;     // ... the first operand pair of a fold
    localparam int SHIFT = 2;     // the weight (WS) or result (OS) chain moves by one element
    localparam int TAKE = 3;      // ... the first move of a fold
endpackage


// Registers in a row: the skew and deskew triangles are built of these.
module delay_line #(parameter int WIDTH = 8, parameter int STAGES = 1) (
    input  wire              clk,
    input  wire  [WIDTH-1:0] d,
    output logic [WIDTH-1:0] q
);
    if (STAGES == 0) begin : wire_through
        assign q = d;
    end else begin : registers
        logic [WIDTH*STAGES-1:0] stages;
        always_ff @(posedge clk) stages <= {stages, d};
        assign q = stages[WIDTH*STAGES-1-:WIDTH];
    end
endmodule


// Holds a weight; activations move east, partial sums and weights move south.
module weight_stationary_pe
    import systolic_control::*;
#(parameter bit DOUBLE_BUFFERED = 1) (
    input  wire                clk,
    input  wire                shift_all,
    input  wire         [3:0]  control_in,
    output logic        [3:0]  control_out,
    input  wire  signed [7:0]  west_in,
    output logic signed [7:0]  east_out,
    input  wire  signed [7:0]  north_in,
    output logic signed [7:0]  south_out,
    input  wire  signed [31:0] sum_in,
    output logic signed [31:0] sum_out
);
    logic signed [7:0] held;
    wire signed [7:0] weight;

    if (DOUBLE_BUFFERED) begin : shadowed
        logic signed [7:0] shadow;
        assign weight = control_in[FIRST] ? shadow : held;
        always_ff @(posedge clk) begin
            held <= weight;
            if (control_in[SHIFT]) begin
                shadow <= north_in;
                south_out <= shadow;
            end
        end
    end else begin : in_place
        assign weight = held;
        assign south_out = held;
        always_ff @(posedge clk) if (shift_all) held <= north_in;
    end

    always_ff @(posedge clk) begin
        control_out <= control_in;
        east_out <= west_in;
        sum_out <= sum_in + weight * west_in;
    end
endmodule


// Accumulates one result; operands move east and south, results leave south.
module output_stationary_pe
    import systolic_control::*;
#(parameter bit DOUBLE_BUFFERED = 1) (
    input  wire                clk,
    input  wire                shift_all,
    input  wire         [3:0]  control_in,
    output logic        [3:0]  control_out,
    input  wire  signed [7:0]  west_in,
    output logic signed [7:0]  east_out,
    input  wire  signed [7:0]  north_in,
    output logic signed [7:0]  south_out,
    input  wire  signed [31:0] sum_in,
    output logic signed [31:0] sum_out
);
    logic signed [31:0] accumulator;
    wire signed [31:0] product = west_in * north_in;
    wire signed [31:0] next = control_in[FIRST] ? product : accumulator + product;

    if (DOUBLE_BUFFERED) begin : shadowed
        logic signed [31:0] result;
        always_ff @(posedge clk) begin
            if (control_in[MULTIPLY]) accumulator <= next;
            if (control_in[SHIFT]) begin
                sum_out <= control_in[TAKE] ? accumulator : result;
                result <= sum_in;
            end
        end
    end else begin : in_place
        assign sum_out = accumulator;
        always_ff @(posedge clk)
            if (shift_all) accumulator <= sum_in;
            else if (control_in[MULTIPLY]) accumulator <= next;
    end

    always_ff @(posedge clk) begin
        control_out <= control_in;
        east_out <= west_in;
        south_out <= north_in;
    end
endmodule


module systolic_array
    import systolic_control::*;
#(
    parameter int ROWS = 4,
    parameter int COLS = 4,
    parameter bit OUTPUT_STATIONARY = 0,
    parameter bit DOUBLE_BUFFERED = 1
) (
    input  wire                clk,
    input  wire                reset,
    input  wire  [3:0]         control,
    input  wire  [ROWS*8-1:0]  west,       // element r feeds row r
    input  wire  [COLS*8-1:0]  north,      // element c feeds column c
    output logic [COLS*32-1:0] south,
    output logic               south_valid,
    output logic               idle        // no element multiplies
);
    // A single-buffered chain moves everywhere at once: its weights enter and its results leave without a skew.
    localparam bit SKEW_NORTH = OUTPUT_STATIONARY || DOUBLE_BUFFERED;
    localparam bit SKEW_SOUTH = !OUTPUT_STATIONARY || DOUBLE_BUFFERED;

    wire        [3:0]  command[ROWS][COLS+1];
    wire signed [7:0]  eastward[ROWS][COLS+1];
    wire signed [7:0]  southward[ROWS+1][COLS];
    wire signed [31:0] sum[ROWS+1][COLS];
    wire               edge_valid[COLS];

    for (genvar r = 0; r < ROWS; r++) begin : west_edge
        wire [3:0] live = reset ? 4'b0 : control;
        delay_line #(12, r) skew (clk, {live, west[8*r+:8]}, {command[r][0], eastward[r][0]});
    end

    for (genvar c = 0; c < COLS; c++) begin : north_edge
        delay_line #(8, SKEW_NORTH ? c : 0) skew (clk, north[8*c+:8], southward[0][c]);
        assign sum[0][c] = 0;
    end

    for (genvar r = 0; r < ROWS; r++) begin : row
        for (genvar c = 0; c < COLS; c++) begin : column
            if (OUTPUT_STATIONARY) begin : os
                output_stationary_pe #(DOUBLE_BUFFERED) pe (
                    clk, control[SHIFT], command[r][c], command[r][c+1], eastward[r][c], eastward[r][c+1],
                    southward[r][c], southward[r+1][c], sum[r][c], sum[r+1][c]);
            end else begin : ws
                weight_stationary_pe #(DOUBLE_BUFFERED) pe (
                    clk, control[SHIFT], command[r][c], command[r][c+1], eastward[r][c], eastward[r][c+1],
                    southward[r][c], southward[r+1][c], sum[r][c], sum[r+1][c]);
            end
        end
    end

    // The registers that the outside reads. WS and double-buffered OS elements end in one; a plain accumulator
    // chain is the elements' own state, so a result leaves it into a register below the last row.
    for (genvar c = 0; c < COLS; c++) begin : south_edge
        wire [31:0] result;
        if (OUTPUT_STATIONARY && !DOUBLE_BUFFERED) begin : registered
            delay_line #(33, 1) out (clk, {control[SHIFT], sum[ROWS][c]}, {edge_valid[c], result});
        end else begin : direct
            assign result = sum[ROWS][c];
            assign edge_valid[c] = command[ROWS-1][c+1][OUTPUT_STATIONARY ? SHIFT : MULTIPLY];
        end
        delay_line #(32, SKEW_SOUTH ? COLS - 1 - c : 0) deskew (clk, result, south[32*c+:32]);
    end
    assign south_valid = edge_valid[COLS-1];  // the last column is the one that waits for nobody

    // The south-east element is the last one that any operand reaches.
    int unsigned in_flight;
    assign idle = in_flight == 0;
    always_ff @(posedge clk)
        if (reset) in_flight <= 0;
        else in_flight <= in_flight + control[MULTIPLY] - command[ROWS-1][COLS-1][MULTIPLY];
endmodule


// Takes folds in order through two stages: load then multiply (WS), or multiply then drain (OS).
module fold_sequencer #(parameter bit DOUBLE_BUFFERED = 1) (
    input  wire         clk,
    input  wire         reset,
    input  wire         available,      // fold `first_fold` exists and may begin
    input  wire         array_idle,
    input  wire  [31:0] first_length,   // steps of fold `first_fold` in the first stage, at least 1
    input  wire  [31:0] second_length,  // steps of fold `second_fold` in the second stage, at least 1
    output logic [31:0] first_fold,
    output logic [31:0] first_step,
    output logic        first_begin,
    output logic        first_active,
    output logic [31:0] second_fold,
    output logic [31:0] second_step,
    output logic        second_begin,
    output logic        second_active
);
    logic full;  // a fold is through the first stage and waits for the second

    wire first_free = first_step == 0;
    wire second_free = second_step == 0;
    wire first_ends = first_active && first_step + 1 == first_length;
    wire second_ends = second_active && second_step + 1 == second_length;

    // With two buffers a stage waits only for its neighbour; with one, for the array to be empty.
    assign second_begin = full && second_free && (DOUBLE_BUFFERED || array_idle);
    assign first_begin = available && first_free
        && (DOUBLE_BUFFERED ? !full || second_begin : !full && second_free && array_idle);
    assign first_active = first_begin || !first_free;
    assign second_active = second_begin || !second_free;

    always_ff @(posedge clk)
        if (reset) begin
            {full, first_step, second_step, first_fold, second_fold} <= 0;
        end else begin
            full <= first_ends || (full && !second_begin);
            if (first_active) first_step <= first_ends ? 0 : first_step + 1;
            if (second_active) second_step <= second_ends ? 0 : second_step + 1;
            first_fold <= first_fold + first_ends;
            second_fold <= second_fold + second_ends;
        end
endmodule
`default_nettype wire
