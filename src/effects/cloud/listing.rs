//! Finds objects of a bucket by their keys. A bucket that is absent has none; one that this process
//! has made is waited for, since an object of it may be there already.

use super::failure::{Explain, code};
use super::s3::{Bucket, timestamp};
use crate::model::cloud::Permission;
use crate::model::error::Result;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output as Page;
use aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder as Request;
use jiff::Timestamp;

/// Above all numbers of ten digits.
const HIGHEST: u64 = 10_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub bytes: u64,
    pub written_at: Option<Timestamp>,
}

impl Bucket {
    /// Returns everything under a prefix, in the order of keys; empty if the bucket is absent.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let pages = self.pages(prefix, self.under(prefix)).await?;
        let objects = pages.into_iter().filter_map(|page| page.contents).flatten();
        let listed = objects.filter_map(|object| {
            Some(Listed {
                bytes: object
                    .size
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or_default(),
                written_at: object.last_modified.as_ref().and_then(timestamp),
                key: object.key?,
            })
        });
        Ok(listed.collect())
    }

    /// Returns the folders right under a prefix, in order; empty if the bucket is absent.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let pages = self.pages(prefix, self.under(prefix).delimiter("/")).await?;
        let folders = pages.into_iter().filter_map(|page| page.common_prefixes).flatten();
        Ok(folders.filter_map(|folder| folder.prefix).collect())
    }

    /// Returns the highest key under a prefix by galloping search: O(log n) requests. A key
    /// continues the prefix with a number of ten digits.
    pub async fn last_numbered(&self, prefix: &str) -> Result<Option<String>> {
        let mut found = self.first_from(prefix, 0).await?;
        let (mut low, mut step) = (0_u64, 1024_u64);
        // Steps double upwards first, and then halve.
        while step < HIGHEST
            && let Some(key) = self.first_from(prefix, low + step).await?
        {
            low += step;
            found = Some(key);
            step *= 2;
        }
        while step > 1 {
            step /= 2;
            if let Some(key) = self.first_from(prefix, low + step).await? {
                low += step;
                found = Some(key);
            }
        }
        Ok(found)
    }

    /// Returns the first key under a prefix with at least this number.
    async fn first_from(&self, prefix: &str, number: u64) -> Result<Option<String>> {
        let before = format!("{prefix}{:010}", number);
        let list = self.under(prefix).start_after(before).max_keys(1);
        let page = self.page(prefix, &list).await?;
        let objects = page.and_then(|page| page.contents).unwrap_or_default();
        let key = objects.into_iter().find_map(|object| object.key);
        let numbered = |key: &String| key.as_bytes().get(prefix.len()).is_some_and(u8::is_ascii_digit);
        Ok(key.filter(numbered))
    }

    /// Some minutes long after a bucket began to keep versions, S3 may answer 404 for an object that
    /// is there. Its lists have the object then.
    pub(super) async fn is_listed(&self, key: &str) -> Result<bool> {
        let page = self.page(key, &self.under(key).max_keys(1)).await?;
        let first = page.and_then(|page| page.contents?.into_iter().next());
        Ok(first.is_some_and(|object| object.key() == Some(key)))
    }

    fn under(&self, prefix: &str) -> Request {
        let list = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        list.expected_bucket_owner(&self.account)
    }

    async fn pages(&self, prefix: &str, list: Request) -> Result<Vec<Page>> {
        let mut pages = Vec::new();
        let mut next = Some(list.clone());
        while let Some(request) = next {
            let Some(page) = self.page(prefix, &request).await? else {
                return Ok(Vec::new());
            };
            let token = page.next_continuation_token.clone();
            next = token.map(|token| list.clone().continuation_token(token));
            pages.push(page);
        }
        Ok(pages)
    }

    /// Returns one page of a list; `None` if the bucket is absent.
    async fn page(&self, prefix: &str, list: &Request) -> Result<Option<Page>> {
        let doing = || format!("list {}", self.url(prefix));
        let needed = Permission::ListBucket;
        let asked = self
            .patience
            .of_bucket(&self.name, needed, doing, || list.clone().send());
        match Box::pin(asked).await? {
            Err(error) if code(&error) == "NoSuchBucket" => Ok(None),
            page => page.explain(needed, doing).map(Some),
        }
    }
}
