//! The interface's numbers as enums.

use std::os::raw::c_int;

numbers! {
    /// Which neurons of a layer are computed. `Exact` and `All` give the dense model's output bit for bit. The deciding
    /// matrix is gate where [`Info::ffn_gated`](crate::Info::ffn_gated) says so, else up.
    PredictorKind: u32 {
        /// What there is for every layer: sketch, low-rank, mixed; else exact.
        Default = FLASHINFER_PREDICTOR_DEFAULT,
        /// Every deciding sum computed, firing neurons fetched.
        Exact = FLASHINFER_PREDICTOR_EXACT,
        /// A few bits of the deciding matrix, made at pack time.
        Sketch = FLASHINFER_PREDICTOR_SKETCH,
        /// Two thin factors, calibrated or trained.
        LowRank = FLASHINFER_PREDICTOR_LOWRANK,
        /// Dense: every bundle streamed for every token, no cache.
        All = FLASHINFER_PREDICTOR_ALL,
        /// Sketch in some layers, low-rank in others.
        Mixed = FLASHINFER_PREDICTOR_MIXED,
    }
}

numbers! {
    /// How bundles are read.
    StorageKind: u32 {
        /// The first of libaio, io_uring, pread, buffered that works on this file.
        Default = FLASHINFER_STORAGE_DEFAULT,
        /// Linux asynchronous I/O, direct.
        Libaio = FLASHINFER_STORAGE_LIBAIO,
        /// A pool of reading threads, direct.
        Pread = FLASHINFER_STORAGE_PREAD,
        /// The same pool through the page cache.
        Buffered = FLASHINFER_STORAGE_BUFFERED,
        /// io_uring, direct.
        Uring = FLASHINFER_STORAGE_URING,
    }
}

numbers! {
    /// Which neurons leave the cache when others need their slots. The output never depends on it.
    CachePolicy: u32 {
        /// Window if `window_tokens` is given, else balanced.
        Default = FLASHINFER_CACHE_DEFAULT,
        /// Those not wanted longest; equal slots for every layer.
        Window = FLASHINFER_CACHE_WINDOW,
        /// Those wanted least, older uses fading; equal slots.
        Frequency = FLASHINFER_CACHE_FREQUENCY,
        /// Recent and lasting use; slots go where they save most reads.
        Balanced = FLASHINFER_CACHE_BALANCED,
    }
}

numbers! {
    /// Which checksums are compared.
    Verify: u32 {
        /// Header and resident tensors when opened, bundles when read.
        Default = FLASHINFER_VERIFY_DEFAULT,
        /// None.
        None = FLASHINFER_VERIFY_NONE,
        /// As the default, and the whole file once when opened.
        Open = FLASHINFER_VERIFY_OPEN,
    }
}

numbers! {
    /// Which instructions compute.
    Kernels: u32 {
        /// The best this CPU has.
        Default = FLASHINFER_KERNELS_DEFAULT,
        /// Plain C.
        Ref = FLASHINFER_KERNELS_REF,
        /// AVX2, FMA and F16C.
        Avx2 = FLASHINFER_KERNELS_AVX2,
        /// AVX-512 F, BW, DQ, VL.
        Avx512 = FLASHINFER_KERNELS_AVX512,
        /// Every aarch64 CPU; with dotprod where there is.
        Neon = FLASHINFER_KERNELS_NEON,
    }
}

numbers! {
    /// What keys and values are kept as.
    KvType: u32 {
        /// float32.
        Default = FLASHINFER_KV_DEFAULT,
        /// float32.
        F32 = FLASHINFER_KV_F32,
        /// Half the memory; logits differ in about the third digit.
        F16 = FLASHINFER_KV_F16,
        /// GGUF's blocks of 32: a quarter of the memory; heads must be a multiple of 32 wide.
        Q8_0 = FLASHINFER_KV_Q8_0,
    }
}

numbers! {
    /// What matrices and bundles are packed as.
    Dtype: u32 {
        /// float16.
        Default = FLASHINFER_DTYPE_DEFAULT,
        /// float32.
        F32 = FLASHINFER_DTYPE_F32,
        /// float16.
        F16 = FLASHINFER_DTYPE_F16,
        /// bfloat16.
        BF16 = FLASHINFER_DTYPE_BF16,
        /// GGUF's blocks of 32 elements, 8.5 bits each.
        Q8_0 = FLASHINFER_DTYPE_Q8_0,
        /// The same with 4.5 bits.
        Q4_0 = FLASHINFER_DTYPE_Q4_0,
    }
}

numbers! {
    /// A neuron's part in its bundle.
    Part: u32 {
        /// The row of the up projection.
        Up = FLASHINFER_PART_UP,
        /// The column of the down projection.
        Down = FLASHINFER_PART_DOWN,
        /// The row of the gate projection, where the FFN has one; it decides what fires then.
        Gate = FLASHINFER_PART_GATE,
    }
}

numbers! {
    /// What an FFN does with a neuron's deciding sum s; u is the up row's sum in gated FFNs, 1 in others.
    Activation: u32 {
        /// s u, where s is above 0.
        Relu = FLASHINFER_ACTIVATION_RELU,
        /// s s u, where s is above 0.
        Relu2 = FLASHINFER_ACTIVATION_RELU2,
        /// s u, where s is above [`Info::ffn_threshold`](crate::Info::ffn_threshold).
        FatRelu = FLASHINFER_ACTIVATION_FATRELU,
        /// s u, where s and u are above 0.
        DRelu = FLASHINFER_ACTIVATION_DRELU,
        /// s u / (1 + exp(-s)), everywhere.
        Silu = FLASHINFER_ACTIVATION_SILU,
        /// s u (1 + erf(s / √2)) / 2, everywhere.
        Gelu = FLASHINFER_ACTIVATION_GELU,
        /// s u (1 + tanh(t)) / 2 with t = √(2 / π) (s + 0.044715 s³), everywhere.
        GeluTanh = FLASHINFER_ACTIVATION_GELU_TANH,
    }
}

numbers! {
    /// How much a log line matters.
    LogLevel: c_int {
        /// Something failed.
        Error = FLASHINFER_LOG_ERROR,
        /// Something is not as it should be.
        Warning = FLASHINFER_LOG_WARNING,
        /// What was decided.
        Info = FLASHINFER_LOG_INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    /// Numbers of the constants with this prefix, as libflashinfer-sys declares them.
    fn declared(prefix: &str) -> Vec<i64> {
        let text = include_str!("../../libflashinfer-sys/src/declarations.rs");
        let head = format!("pub const FLASHINFER_{}", prefix);
        text.lines()
            .filter(|line| line.starts_with(&head) && !line.contains("FLASHINFER_ERROR_"))
            .map(|line| line.rsplit_once("= ").unwrap().1.trim_end_matches(';'))
            .map(|number| number.parse().unwrap())
            .collect()
    }

    #[test]
    fn every_number_has_a_name() {
        fn check<T: std::fmt::Debug>(prefix: &str, known: usize, of: impl Fn(i64) -> T) {
            let numbers = declared(prefix);
            assert!(numbers.len() >= known, "{} is no longer declared", prefix);
            for number in numbers {
                let name = format!("{:?}", of(number));
                assert!(
                    !name.starts_with("Other"),
                    "name {}{} in src/kinds.rs",
                    prefix,
                    name
                );
            }
        }
        let number = |n: i64| u32::try_from(n).unwrap();
        check("PREDICTOR_", 6, |n| PredictorKind::from(number(n)));
        check("STORAGE_", 5, |n| StorageKind::from(number(n)));
        check("CACHE_", 4, |n| CachePolicy::from(number(n)));
        check("VERIFY_", 3, |n| Verify::from(number(n)));
        check("KERNELS_", 4, |n| Kernels::from(number(n)));
        check("KV_", 4, |n| KvType::from(number(n)));
        check("DTYPE_", 6, |n| Dtype::from(number(n)));
        check("PART_", 3, |n| Part::from(number(n)));
        check("ACTIVATION_", 5, |n| Activation::from(number(n)));
        check("LOG_", 3, |n| LogLevel::from(c_int::try_from(n).unwrap()));
        check("E", 16, |n| ErrorCode::from(c_int::try_from(n).unwrap()));
    }

    #[test]
    fn numbers_go_there_and_back() {
        for number in 0..9 {
            assert_eq!(PredictorKind::from(number).number(), number);
        }
        assert_eq!(PredictorKind::from(77), PredictorKind::Other(77));
        assert_eq!(ErrorCode::from(-7), ErrorCode::Budget);
    }
}
