//! The binaries of Kubernetes.

use super::*;

#[test]
fn binaries_of_a_folder_are_locked() {
    let mut bench = bench();
    bench.binaries = strings(&["kubelet", "kube-proxy"]);
    insta::assert_snapshot!(bench.error(None), @"[kubernetes] has neither directory nor mirror; set directory to the folder of the binaries, or mirror");
    bench.kubernetes.directory = Some("bin".to_owned());
    insta::assert_snapshot!(bench.error(None), @"there is no folder /cluster/bin; make it with the binaries of Kubernetes 1.20.2 (kubelet, kube-proxy), correct directory in [kubernetes], or set mirror");
    bench.program("bin/kubelet", "one");
    bench.program("bin/kube-proxy", "one");
    let (lock, inputs) = bench.inputs(None, false).unwrap();
    let names: Vec<&str> = inputs.binaries.iter().map(|binary| binary.name.as_str()).collect();
    assert_eq!(names, ["kubelet", "kube-proxy"], "in the order of the request");
    assert_eq!(inputs.binaries[0].path, bench.folder.path().join("bin/kubelet"));
    bench.inputs(Some(&lock), false).unwrap();
    bench.program("bin/kubelet", "two");
    assert!(bench.error(Some(&lock)).starts_with("/cluster/bin/kubelet changed: SHA-256 "));
    bench.program("bin/kubelet", "one");
    bench.kubernetes.version = "1.21.0".to_owned();
    assert!(bench.error(Some(&lock)).starts_with("Kubernetes is 1.21.0 and was 1.20.2 (kubelet)"));
}

#[test]
fn binaries_of_a_release_mirror_are_verified() {
    let mut bench = bench();
    bench.program("mirror/v1.20.2/bin/linux/amd64/kubelet", "one");
    let binary = bench.folder.path().join("mirror/v1.20.2/bin/linux/amd64/kubelet");
    let digest = sha256(&fs::read(&binary).unwrap());
    let checksum = binary.with_extension("sha256");
    fs::write(&checksum, format!("{digest}  kubelet\n")).unwrap();
    let server = Server::new(&bench.folder.path().join("mirror"));
    bench.kubernetes.mirror = Some(server.url());
    bench.binaries = strings(&["kubelet"]);
    let (lock, inputs) = bench.inputs(None, false).unwrap();
    assert_eq!(inputs.binaries[0].sha256, digest);
    assert_eq!(server.requests().len(), 2);
    bench.inputs(Some(&lock), false).unwrap();
    assert_eq!(server.requests().len(), 2, "the lock and the cache are enough");

    bench.cache = Cache::open(&bench.folder.path().join("other cache")).unwrap();
    bench.inputs(Some(&lock), false).unwrap();
    assert_eq!(server.count("/v1.20.2/bin/linux/amd64/kubelet.sha256"), 1, "the lock knows the digest");

    fs::write(&checksum, "<html>").unwrap();
    let error = bench.error(None).replace(&server.url(), "http://k8s");
    insta::assert_snapshot!(error, @r#"http://k8s/v1.20.2/bin/linux/amd64/kubelet.sha256 holds no SHA-256 but "<html>"; check mirror in [kubernetes]"#);
    fs::write(&checksum, sha256(b"other")).unwrap();
    let error = bench.error(None);
    assert!(error.contains("kubelet: SHA-256 is "), "{error}");
    fs::remove_file(&checksum).unwrap();
    let error = bench.error(None);
    assert!(error.starts_with("Kubernetes 1.20.2: ") && error.contains("the server answered 404"), "{error}");
}
