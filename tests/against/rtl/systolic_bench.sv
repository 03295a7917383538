// Runs lists of GEMMs through the array, checks every result against the plain product, prints when each left.
//
// +cases=FILE  one case per line: count, then count times "m n k release" (release: first cycle it may issue).
// Prints "case I gemm G issue X finish Y". Cycle 0 is the first after reset; `issue` is the cycle in which the
// array is offered the GEMM's first weight (WS, IS) or operand (OS) vector; `finish` is the number of clock edges
// since cycle 0 until the register at the south edge has its last result vector. So finish - issue is the number
// of cycles from the first vector offered to the last one out, both included.
module systolic_bench
    import systolic_control::*;
#(
    parameter int ROWS = 4,
    parameter int COLS = 4,
    parameter int DATAFLOW = 0,  // 0 weight, 1 output, 2 input stationary
    parameter bit DOUBLE_BUFFERED = 1
);
    localparam bit OS = DATAFLOW == 1;
    localparam bit IS = DATAFLOW == 2;
    localparam int MAX_GEMMS = 16, MAX_FOLDS = 1 << 14, MAX_WORDS = 1 << 18, TIMEOUT_CYCLES = 1 << 16;

    int gemms, folds, mismatches;
    int m[MAX_GEMMS], n[MAX_GEMMS], k[MAX_GEMMS], gemm_release[MAX_GEMMS];
    int left_at[MAX_GEMMS], right_at[MAX_GEMMS], out_at[MAX_GEMMS];  // where its matrices start
    byte left[MAX_WORDS], right[MAX_WORDS];                          // m x k and k x n
    int out[MAX_WORDS];                                              // m x n
    int fold_gemm[MAX_FOLDS], fold_row[MAX_FOLDS], fold_col[MAX_FOLDS];
    logic [31:0] fold_stream[MAX_FOLDS], fold_release[MAX_FOLDS];  // nets read these: not int, Icarus 11 aborts
    bit fold_ends_gemm[MAX_FOLDS], fold_begins_gemm[MAX_FOLDS];
    int issue_cycle[MAX_GEMMS], finish_cycle[MAX_GEMMS];

    logic clk = 0, reset = 1;
    int cycle, out_fold, out_step;
    wire [31:0] first_fold, first_step, second_fold, second_step;
    wire first_begin, first_active, second_begin, second_active, idle, south_valid;
    logic [ROWS*8-1:0] west;
    logic [COLS*8-1:0] north;
    wire [COLS*32-1:0] south;
    wire available = first_fold < folds && cycle >= fold_release[first_fold];
    wire [31:0] first_length = OS ? fold_stream[first_fold] : ROWS;
    wire [31:0] second_length = OS ? ROWS : fold_stream[second_fold];
    wire [3:0] control = OS ? {second_begin, second_active, first_begin, first_active}
                            : {first_begin, first_active, second_begin, second_active};

    fold_sequencer #(DOUBLE_BUFFERED) sequencer (
        clk, reset, available, idle, first_length, second_length,
        first_fold, first_step, first_begin, first_active, second_fold, second_step, second_begin, second_active);
    systolic_array #(ROWS, COLS, OS, DOUBLE_BUFFERED) dut (
        clk, reset, control, west, north, south, south_valid, idle);

    // The array sees (rows of x) x (columns of y); input stationary holds the inputs, which is weight stationary
    // on the transposed product: x = right', y = left'.
    function automatic int x_rows(int g); return IS ? n[g] : m[g]; endfunction
    function automatic int y_cols(int g); return IS ? m[g] : n[g]; endfunction

    function automatic byte x(int g, int i, int d);
        if (i >= x_rows(g) || d >= k[g]) return 0;
        return IS ? right[right_at[g] + d * n[g] + i] : left[left_at[g] + i * k[g] + d];
    endfunction

    function automatic byte y(int g, int d, int j);
        if (d >= k[g] || j >= y_cols(g)) return 0;
        return IS ? left[left_at[g] + j * k[g] + d] : right[right_at[g] + d * n[g] + j];
    endfunction

    // Operand vectors are set up in the middle of the cycle, when the sequencer's outputs have settled.
    always @(negedge clk) offer();

    task automatic offer;
        automatic int gx = fold_gemm[OS ? first_fold : second_fold];
        automatic int gy = fold_gemm[first_fold];
        for (int r = 0; r < ROWS; r++)
            if (OS) west[8*r+:8] = x(gx, fold_row[first_fold] + r, first_step);
            else west[8*r+:8] = x(gx, second_step, fold_row[second_fold] + r);
        for (int c = 0; c < COLS; c++)
            if (OS) north[8*c+:8] = y(gy, first_step, fold_col[first_fold] + c);
            else north[8*c+:8] = y(gy, fold_row[first_fold] + ROWS - 1 - first_step, fold_col[first_fold] + c);
    endtask

    always @(posedge clk)
        if (reset) begin
            cycle <= 0;
            out_fold = 0;
            out_step = 0;
        end else begin
            cycle <= cycle + 1;
            if (first_begin && fold_begins_gemm[first_fold]) issue_cycle[fold_gemm[first_fold]] = cycle;
            if (south_valid) collect();
        end

    // Adds the vector at the south edge to the result (partial sums over K folds meet here).
    task automatic collect;
        automatic int g = fold_gemm[out_fold];
        automatic int i = OS ? fold_row[out_fold] + ROWS - 1 - out_step : out_step;
        for (int c = 0; c < COLS; c++) begin
            automatic int j = fold_col[out_fold] + c;
            automatic int at = out_at[g] + (IS ? j * n[g] + i : i * n[g] + j);
            if (i < x_rows(g) && j < y_cols(g)) out[at] = out[at] + south[32*c+:32];
        end
        out_step++;
        if (out_step == (OS ? ROWS : fold_stream[out_fold])) begin
            if (fold_ends_gemm[out_fold]) finish_cycle[g] = cycle;
            out_step = 0;
            out_fold++;
        end
    endtask

    // Folds go through K fastest, so that a weight-stationary result block is complete before the next begins.
    task automatic add_folds(int g);
        automatic int row_extent = OS ? x_rows(g) : k[g];
        automatic int begins = folds;
        for (int c0 = 0; c0 < y_cols(g); c0 += COLS)
            for (int r0 = 0; r0 < row_extent; r0 += ROWS) begin
                fold_gemm[folds] = g;
                fold_row[folds] = r0;
                fold_col[folds] = c0;
                fold_stream[folds] = OS ? k[g] : x_rows(g);
                fold_release[folds] = gemm_release[g];
                fold_begins_gemm[folds] = folds == begins;
                fold_ends_gemm[folds] = 0;
                folds++;
            end
        fold_ends_gemm[folds-1] = 1;
    endtask

    task automatic read_case(int file);
        automatic int l = 0, r = 0, o = 0;
        folds = 0;
        for (int g = 0; g < gemms; g++) begin
            if ($fscanf(file, "%d %d %d %d", m[g], n[g], k[g], gemm_release[g]) != 4) $fatal(1, "bad case");
            left_at[g] = l;
            right_at[g] = r;
            out_at[g] = o;
            l += m[g] * k[g];
            r += k[g] * n[g];
            o += m[g] * n[g];
            add_folds(g);
        end
        if (l > MAX_WORDS || r > MAX_WORDS || o > MAX_WORDS || folds > MAX_FOLDS) $fatal(1, "case too large");
        for (int i = 0; i < l; i++) left[i] = $random;
        for (int i = 0; i < r; i++) right[i] = $random;
        for (int i = 0; i < o; i++) out[i] = 0;
    endtask

    task automatic check_product(int g);
        for (int i = 0; i < m[g]; i++)
            for (int j = 0; j < n[g]; j++) begin
                automatic int expected = 0;
                for (int d = 0; d < k[g]; d++)
                    expected += left[left_at[g] + i * k[g] + d] * right[right_at[g] + d * n[g] + j];
                if (out[out_at[g] + i * n[g] + j] !== expected) mismatches++;
            end
    endtask

    always #5 clk = ~clk;

    string path;
    int file, number = 0;

    initial begin
        if (!$value$plusargs("cases=%s", path)) $fatal(1, "+cases=FILE is missing");
        file = $fopen(path, "r");
        while ($fscanf(file, "%d", gemms) == 1) begin
            read_case(file);
            reset = 1;
            repeat (2 + ROWS + COLS) @(negedge clk);  // flushes every pipeline register
            reset = 0;
            while (out_fold < folds && cycle < TIMEOUT_CYCLES) @(negedge clk);
            if (out_fold < folds) $fatal(1, "case %0d hangs", number);
            for (int g = 0; g < gemms; g++) begin
                check_product(g);
                $display("case %0d gemm %0d issue %0d finish %0d", number, g, issue_cycle[g], finish_cycle[g]);
            end
            if (mismatches != 0) $fatal(1, "case %0d: %0d results differ from the product", number, mismatches);
            number++;
        end
        $finish;
    end
endmodule
