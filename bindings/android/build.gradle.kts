plugins {
    id("com.android.library") version "8.7.3"
}

group = "libflashinfer"
version = "0.1.0"

android {
    namespace = "org.libflashinfer" // of the manifest; two words at least
    compileSdk = 35
    ndkVersion = "27.2.12479018"

    defaultConfig {
        minSdk = 24 // docs/embedding.md says which function asks for it
        consumerProguardFiles("keep.pro")
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64") // the second: emulators
        }
        externalNativeBuild {
            cmake {
                arguments += listOf("-DANDROID_SUPPORT_FLEXIBLE_PAGE_SIZES=ON")
                targets += "flashinfer_jni"
            }
        }
    }

    externalNativeBuild {
        cmake {
            path = file("CMakeLists.txt")
            version = "3.22.1"
        }
    }

    sourceSets {
        getByName("main") {
            manifest.srcFile("AndroidManifest.xml")
            java.srcDirs("java")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
}
