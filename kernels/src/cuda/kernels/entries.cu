// The kernels themselves, each under its name: operation, weights, rows or tile. Their grids, blocks, shared memory
// and arguments are in plan/build.rs.

#ifdef EMULATION
#define KERNEL(threads) extern "C" void
#else
// At least two blocks a multiprocessor keep enough loads under way; the compiler has 128 registers a
// thread then.
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads, 2)
#endif

#define FEW_ROWS(W, R)                                                                                        \
    KERNEL(256) norm_qkv_##W##_r##R(const float *residual, const float *gain, const float *norm_bias,         \
                                    const W##_t *weights, const float *bias, const int *position,             \
                                    float *query, W##_t *keys, W##_t *values, int batch, int width,           \
                                    int heads, int context, float epsilon, float scale) {                     \
        norm_qkv<W##_t, R>(residual, gain, norm_bias, weights, bias, position, query, keys, values, batch,    \
                           width, heads, context, epsilon, scale);                                            \
    }                                                                                                         \
    KERNEL(256) project_##W##_r##R(const float *partial, const float *stats, const W##_t *weights,            \
                                   const float *bias, float *residual, int batch, int width, int heads,       \
                                   int splits, int parts) {                                                   \
        project<W##_t, R>(partial, stats, weights, bias, residual, batch, width, heads, splits, parts);       \
    }                                                                                                         \
    KERNEL(256) norm_expand_##W##_r##R(const float *residual, const float *gain, const float *norm_bias,      \
                                       const W##_t *weights, const float *bias, float *hidden, int batch,     \
                                       int width, int inner, float epsilon) {                                 \
        norm_expand<W##_t, R>(residual, gain, norm_bias, weights, bias, hidden, batch, width, inner,          \
                              epsilon);                                                                       \
    }                                                                                                         \
    KERNEL(256) contract_##W##_r##R(const float *hidden, const W##_t *weights, const float *bias,             \
                                    float *residual, int batch, int inner, int width, int parts) {            \
        contract<W##_t, R>(hidden, weights, bias, residual, batch, inner, width, parts);                      \
    }                                                                                                         \
    KERNEL(256) norm_head_##W##_r##R(const float *residual, const float *gain, const float *norm_bias,        \
                                     const W##_t *weights, float *logits, unsigned long long *best,           \
                                     unsigned *finished, int *token, int *position, int *output, int batch,   \
                                     int width, int vocabulary, int context, int length, int choose,          \
                                     float epsilon) {                                                         \
        norm_head<W##_t, R>(residual, gain, norm_bias, weights, logits, best, finished, token, position,      \
                            output, batch, width, vocabulary, context, length, choose, epsilon);              \
    }

#define BOTH_WEIGHTS(W)                                                                                       \
    FEW_ROWS(W, 1)                                                                                            \
    FEW_ROWS(W, 2)                                                                                            \
    FEW_ROWS(W, 4)                                                                                            \
    FEW_ROWS(W, 8)                                                                                            \
    KERNEL(128) embed_##W(const int *tokens, const int *position, const W##_t *token_table,                   \
                          const float *position_table, float *residual, int length, int width) {              \
        embed(tokens, position, token_table, position_table, residual, length, width);                        \
    }                                                                                                         \
    KERNEL(128) attend_##W(const float *query, const W##_t *keys, const W##_t *values, const int *position,   \
                           float *partial, float *stats, int heads, int head_width, int context) {            \
        attend(query, keys, values, position, partial, stats, heads, head_width, context);                    \
    }                                                                                                         \
    KERNEL(128) layer_norm_##W(const float *residual, const float *gain, const float *bias, W##_t *normed,    \
                               int width, float epsilon) {                                                    \
        layer_norm_row(residual, gain, bias, normed, width, epsilon);                                         \
    }                                                                                                         \
    KERNEL(128) split_qkv_##W(const float *joined, const float *bias, const int *position, float *query,      \
                              W##_t *keys, W##_t *values, int length, int width, int heads, int context,      \
                              float scale) {                                                                  \
        const MatmulEndQkv<W##_t> end = {bias,   position, query, keys,    values,                            \
                                         length, width,    heads, context, scale};                            \
        split_qkv(joined, width, end);                                                                        \
    }

typedef float f32_t;
typedef bf16 bf16_t;
BOTH_WEIGHTS(f32)
BOTH_WEIGHTS(bf16)

// `product` is the matmul of the tile.
#define MATMULS(suffix, T, product)                                                                           \
    KERNEL(256) matmul_qkv_##suffix(const T *x, const T *weights, const float *bias, int rows,                \
                                    const int *position, float *query, T *keys, T *values, int length,        \
                                    int width, int heads, int context, float scale) {                         \
        const MatmulEndQkv<T> end = {bias,   position, query, keys,    values,                                \
                                     length, width,    heads, context, scale};                                \
        product(x, weights, rows, width, 3 * width, end);                                                     \
    }                                                                                                         \
    KERNEL(256) matmul_gelu_##suffix(const T *x, const T *weights, const float *bias, T *y, int rows,         \
                                     int inputs, int outputs) {                                               \
        const MatmulEndGelu<T> end = {bias, y, outputs};                                                      \
        product(x, weights, rows, inputs, outputs, end);                                                      \
    }                                                                                                         \
    KERNEL(256) matmul_residual_##suffix(const T *x, const T *weights, const float *bias, float *y, int rows, \
                                         int inputs, int outputs) {                                           \
        const MatmulEndAdd end = {bias, y, outputs};                                                          \
        product(x, weights, rows, inputs, outputs, end);                                                      \
    }
#define MATMUL_TILE(M, N) MATMULS(bf16_t##M##x##N, bf16, (matmul<M, N>))
MATMULS(f32, float, matmul)
MATMUL_TILE(64, 64)
MATMUL_TILE(128, 64)
MATMUL_TILE(128, 128)

KERNEL(128) attend_tiles_f32(const float *query, const float *keys, const float *values, const int *position,
                             float *attended, int length, int heads, int head_width, int context) {
    attend_tiles(query, keys, values, position, attended, length, heads, head_width, context);
}

#define HEAD_WIDTH(D)                                                                                         \
    KERNEL(128) attend_tiles_bf16_t64x##D(const float *query, const bf16 *keys, const bf16 *values,           \
                                          const int *position, bf16 *attended, int length, int heads,         \
                                          int head_width, int context) {                                      \
        attend_tiles<D>(query, keys, values, position, attended, length, heads, head_width, context);         \
    }
HEAD_WIDTH(16)
HEAD_WIDTH(32)
HEAD_WIDTH(64)
HEAD_WIDTH(128)

// Table, four matrices of all layers, keys, values: each a pointer and how many 16-byte words it has.
// grid (4 a multiprocessor).
KERNEL(256) stream(const uint4 *table, int table_words, const uint4 *qkv, int qkv_words, const uint4 *project,
                   int project_words, const uint4 *expand, int expand_words, const uint4 *contract,
                   int contract_words, const uint4 *keys, int keys_words, const uint4 *values,
                   int values_words, unsigned *seen) {
    wait_for_predecessor();
    let_successor_start();
    leave_seen(seen, read_stretch(table, table_words) ^ read_stretch(qkv, qkv_words) ^
                         read_stretch(project, project_words) ^ read_stretch(expand, expand_words) ^
                         read_stretch(contract, contract_words) ^ read_stretch(keys, keys_words) ^
                         read_stretch(values, values_words));
}

KERNEL(256) sample(const float *logits, const unsigned long long *seed, int *drawn, int *token, int *position,
                   int *output, int vocabulary, int context, int length, int first, int top_k,
                   float temperature, float top_p) {
    sample_row(logits, seed, drawn, token, position, output, vocabulary, context, length, first, top_k,
               temperature, top_p);
}

KERNEL(128) pack_norm(const float *residual, const float *gain, const float *bias, bf16 *x, int length, int width,
                       float epsilon) {
    pack_norm_row(residual, gain, bias, x, length, width, epsilon);
}

KERNEL(128) pack_parts(const float *partial, const float *stats, bf16 *x, int width, int heads, int splits) {
    pack_parts_row(partial, stats, x, width, heads, splits);
}

KERNEL(128) attend_packed_bf16(const float *query, const bf16 *keys, const bf16 *values, const int *position,
                                bf16 *x, int heads, int head_width, int context) {
    attend_packed(query, keys, values, position, x, heads, head_width, context);
}

#define MORE_ROWS(R)                                                                                          \
    KERNEL(256) skinny_qkv_bf16_r##R(const bf16 *x, const bf16 *weights, const float *bias,                   \
                                     const int *position, float *query, bf16 *keys, bf16 *values, int rows,   \
                                     int width, int heads, int context, float scale) {                        \
        skinny_qkv<R / 8>(x, weights, bias, position, query, keys, values, rows, width, heads, context,       \
                          scale);                                                                             \
    }                                                                                                         \
    KERNEL(256) skinny_gelu_bf16_r##R(const bf16 *x, const bf16 *weights, const float *bias, bf16 *hidden,    \
                                      int rows, int inputs, int outputs) {                                    \
        skinny_gelu<R / 8>(x, weights, bias, hidden, rows, inputs, outputs);                                  \
    }                                                                                                         \
    KERNEL(256) skinny_residual_bf16_r##R(const bf16 *x, const bf16 *weights, const float *bias, float *y,    \
                                          float *shares, unsigned *arrived, int rows, int inputs,             \
                                          int outputs) {                                                      \
        skinny_residual<R / 8>(x, weights, bias, y, shares, arrived, rows, inputs, outputs);                  \
    }                                                                                                         \
    KERNEL(256) skinny_head_bf16_r##R(const bf16 *x, const bf16 *weights, float *logits,                      \
                                      unsigned long long *best, unsigned *finished, int *token,               \
                                      int *position, int *output, int batch, int width, int vocabulary,       \
                                      int context, int length, int choose) {                                  \
        skinny_head<R / 8>(x, weights, logits, best, finished, token, position, output, batch, width,         \
                           vocabulary, context, length, choose);                                              \
    }

MORE_ROWS(16)
MORE_ROWS(32)
MORE_ROWS(64)
