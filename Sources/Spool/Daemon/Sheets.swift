import SystemPackage

/// What shows a set as a whole: its contact sheet, where its manifest asks for one, and its page, where the configuration does.
extension SpoolLoop {
    func needsGrid(_ job: Job) -> Bool {
        job.manifest.output.grid && job.record.grid == nil && job.record.gridError == nil
    }

    func needsPage(_ job: Job) -> Bool {
        configuration.pages && job.manifest.isShownOnPage && job.record.page == nil && job.record.pageError == nil
    }

    /// What of it is still to be made.
    func sheets(_ job: Job) throws(AssignmentRefusal) -> SheetOrder {
        let set = SpoolLayout.job(job.id, .active).appending(JobStore.setFolder)
        let references = try references(job)
        let images = job.record.images.map { store.system.absolute(set.appending($0.file)) }
        var order: (grid: (GridRequest, SpoolPath)?, page: (PageRequest, SpoolPath)?)
        if needsGrid(job) {
            let temporary = store.temporary("\(job.id).\(job.manifest.gridFileName)")
            order.grid = (
                GridRequest(
                    manifest: job.manifest, references: references, images: images,
                    remarks: job.record.images.compactMap { $0.report.choice?.summary },
                    output: store.system.absolute(temporary)), temporary
            )
        }
        if needsPage(job) {
            let temporary = store.temporary("\(job.id).\(PageRequest.fileName)")
            let hasSheet = job.record.grid != nil || order.grid != nil
            order.page = (
                PageRequest(
                    job: job.id.text, manifest: job.manifest, document: try document(job), references: references,
                    pictures: zip(images, job.record.images).enumerated().map { index, picture in
                        PageRequest.Picture(
                            path: picture.0, prompt: job.plan(image: index).prompt, seed: picture.1.seed,
                            report: picture.1.report,
                            overlay: picture.1.overlay.map { store.system.absolute(set.appending($0)) })
                    },
                    sheet: hasSheet ? job.manifest.gridFileName : nil,
                    notes: job.record.restarts.map { "the set was begun anew: \($0)" },
                    output: store.system.absolute(temporary)), temporary
            )
        }
        return SheetOrder(grid: order.grid, page: order.page)
    }

    /// The references of a job's subjects, with their cut-outs.
    func references(_ job: Job) throws(AssignmentRefusal) -> [GridRequest.Reference] {
        var references: [GridRequest.Reference] = []
        for (index, subject) in job.manifest.subjects.enumerated() {
            let key = job.record.caches[index].cache ?? ""
            references += try order(job, subject: index).references.enumerated().map { number, path in
                let cutOut = SpoolLayout.cutOuts(key).appending(CutOuts.fileName(reference: number))
                return GridRequest.Reference(
                    subject: subject.name, path: path, cutOut: store.system.absolute(cutOut))
            }
        }
        return references
    }

    private func document(_ job: Job) throws(AssignmentRefusal) -> String {
        do throws(SpoolError) {
            let path = SpoolLayout.job(job.id, .active).appending(JobStore.manifestFile)
            return PageRequest.document(try store.readJSON(path), seed: job.record.seed)
        } catch { throw .storage(error) }
    }
}
